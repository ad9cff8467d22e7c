"""Networks, in flax.linen."""
