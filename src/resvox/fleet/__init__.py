"""Predictions over addresses: manifests, shards, claims in stores, status, clusters."""
