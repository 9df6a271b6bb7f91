"""Comparison of several sets of scores on the same cases, with paired statistics."""
