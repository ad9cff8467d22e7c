"""Monocular depth training in JAX.

Imports nothing, so that `from amlr_jax import losses` costs jax alone and
`from amlr_jax import rebalance` jax and optax.
"""

__version__ = "0.1.0"
