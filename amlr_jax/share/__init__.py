"""A trained network as a folder for others: `python -m amlr_jax.share`."""
