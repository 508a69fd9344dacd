"""From the name of published weights to a file on this machine."""
