"""Exact checks of claims about a watermark's parameters: rationals, no torch, no solver."""
