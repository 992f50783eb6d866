"""The search: what finds proofs and witnesses.  Nothing here is trusted."""
