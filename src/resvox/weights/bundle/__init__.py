"""Bundles of MONAI: folders with a configuration, metadata and weights, read as data."""
