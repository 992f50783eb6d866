"""Watermarks in networks: marks, keys, and what can be claimed of them."""
