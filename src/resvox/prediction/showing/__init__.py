"""What a path is that stands for a model: its kind, network, labels, preparation, training. No tensor is computed."""
