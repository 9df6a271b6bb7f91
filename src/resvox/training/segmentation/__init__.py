"""Segmentation: labelled scans, patches, Dice."""
