"""Command line: verbs parse, call one function and print."""
