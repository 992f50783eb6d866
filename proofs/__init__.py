"""The evidence: proof and witness formats and the kernel that checks them."""
