"""A model that leaves the machine: engine files, and the gate that proves them equal to torch."""
