"""`speed="balanced"` and `"fast"`: fewer windows, as long as the labels stay those of `"full"`."""
