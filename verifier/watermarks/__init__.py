"""Embedding watermarks, attacking them, and searching for what the checks of them need."""
