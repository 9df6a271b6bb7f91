"""Models of nnU-Net v2 in a prediction: their cards, the first stage of a cascade, results with their own bits."""
