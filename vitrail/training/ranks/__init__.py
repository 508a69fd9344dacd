"""One run by many processes: who does what of a step, what they agree on, how they are started."""
