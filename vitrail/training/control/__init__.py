"""What ends a run from outside: the clock, a time limit, a signal."""
