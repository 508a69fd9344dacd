"""BiT: the residual network of the paper."""
