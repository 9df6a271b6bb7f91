"""A model file and a batch of scans: one predictor per task, one batch loop for all of them."""
