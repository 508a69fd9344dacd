"""Tables, figures and verdicts of the rows of a study."""
