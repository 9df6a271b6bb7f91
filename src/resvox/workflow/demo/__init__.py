"""The demo: a dataset, training, prediction, evaluation and a report, in a few minutes."""
