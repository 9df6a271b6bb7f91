"""Restoration of hidden parts of scans: pretraining without labels."""
