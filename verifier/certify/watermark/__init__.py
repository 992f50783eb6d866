"""Answers about watermarks."""
