"""Attacks on watermarks: each returns the attacked model file; ``cost.py`` says what it cost."""
