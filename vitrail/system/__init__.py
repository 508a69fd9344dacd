"""What the machine lets a process do: child processes, containers, interrupts."""
