"""Update rules, schedules and averages of weights."""
