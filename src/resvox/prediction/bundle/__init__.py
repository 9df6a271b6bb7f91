"""Bundles of MONAI in a prediction: their configuration as a model card, and results as MONAI makes them."""
