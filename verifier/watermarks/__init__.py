"""Watermarks: embedding, attacks, and the search for what certificates rest on."""
