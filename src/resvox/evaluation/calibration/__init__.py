"""Whether a model knows how sure it is: calibration of probabilities, and scores against doubt."""
