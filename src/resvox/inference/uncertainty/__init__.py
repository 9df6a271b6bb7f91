"""How sure a network is, gathered while labels are restored."""
