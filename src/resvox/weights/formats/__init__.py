"""File formats of weights: each reader returns arrays by name and runs no code from the file."""
