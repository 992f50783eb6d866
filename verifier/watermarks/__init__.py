"""Marks in networks: embedding, attacks, and the search for evidence."""
