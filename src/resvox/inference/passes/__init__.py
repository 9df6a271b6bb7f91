"""Scans in two passes: windows that cover them, then those that could still change labels."""
