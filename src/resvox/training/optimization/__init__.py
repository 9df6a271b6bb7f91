"""How weights are updated: the optimizer, its learning rate, and the average of the weights."""
