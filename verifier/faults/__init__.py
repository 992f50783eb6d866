"""Injection of hardware faults: exact semantics, evaluated in batches."""
