"""Monocular depth training in JAX.

Imports nothing, so that `from amlr_jax import losses` costs jax alone and
`from amlr_jax import rebalance` jax and optax. `amlr_jax.load`, a trained network as a
function from an image to depth, is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amlr_jax.predict.library import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module 'amlr_jax' has no attribute '{name}'")
    from amlr_jax.predict.library import load

    return load


def __dir__() -> list[str]:
    return [*globals(), "load"]
