"""Training objectives: initial variables, losses and batches; see `objective`."""
