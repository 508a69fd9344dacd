"""What Python calls: a function for each verb; the verbs call the same code."""
