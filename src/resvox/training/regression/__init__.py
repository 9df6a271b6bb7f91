"""Dense regression: a volume of values for a volume of intensities."""
