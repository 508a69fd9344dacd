"""Search over settings: ranges, trials, what they amount to."""
