"""Certificates of watermarks: exact checks of claims about parameters."""
