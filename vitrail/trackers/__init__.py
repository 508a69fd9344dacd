"""Figures of a run for TensorBoard, MLflow and W&B, on this machine only."""
