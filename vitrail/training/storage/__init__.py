"""The files of a run that training writes."""
