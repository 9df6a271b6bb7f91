"""Training plans: the fields that all tasks share, the YAML file, and the rules that several tasks plan by."""
