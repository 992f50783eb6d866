"""Answers about hardware faults."""
