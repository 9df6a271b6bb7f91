"""Label maps of a model that are made on the device of its network, where that is possible."""
