"""Partitions of boxes that bound the probability of a violation: how they are found."""
