"""Several processes that train one network: sums over all of them, norms of the whole batch, and lost machines."""
