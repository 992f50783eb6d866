"""Passes of the minimiser: each takes a draft and leaves one that closes and is smaller."""
