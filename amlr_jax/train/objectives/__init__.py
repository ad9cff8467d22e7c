"""Objectives: what is learnt from which batches; see `objective`."""
