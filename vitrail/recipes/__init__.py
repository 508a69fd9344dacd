"""Recipes: functions that return one complete TrainConfig."""
