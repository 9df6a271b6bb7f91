"""How sure a model is of a case: temperatures, maps, scores, and the list of cases to look at first."""
