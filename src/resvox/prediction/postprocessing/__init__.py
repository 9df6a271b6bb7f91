"""What is done to a label map after the network: rules that cross-validation has chosen."""
