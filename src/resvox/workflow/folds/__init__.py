"""Cross-validation: one training per fold, predictions out of fold with their scores, and what is learned from them."""
