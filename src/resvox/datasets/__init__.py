"""Who is in the data: cases, their labels, classes or targets, and which of them train, validate or test."""
