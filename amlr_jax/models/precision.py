"""In which dtype, and with which attention kernel, a network computes on a device.

"auto" is bfloat16 with cuDNN's fused attention on an NVIDIA GPU of compute capability
8.0 or later (A100, RTX 30 and newer), and float32 with XLA's attention elsewhere.
"""

from typing import Any, NamedTuple

import jax

from amlr_jax.models.layers import check_one_of
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.rules import AUTO

DTYPES = ("float32", "bfloat16")
ATTENTIONS = ("xla", "cudnn")


class Precision(NamedTuple):
    """What a network computes with."""

    dtype: str  # of the matrix products, one of `DTYPES`
    attention: str  # one of `ATTENTIONS`

    def __str__(self) -> str:
        return f"{self.dtype} with {self.attention} attention"


def choose(
    dtype: str | None = AUTO, attention: str | None = AUTO, *, device: Any = None
) -> Precision:
    """The `Precision` with each "auto" (or None) replaced by the best of a device.

    The device is by default jax's first one. Other values are kept, whether or not it
    can compute with them. Raises ValueError for an unknown value.
    """
    dtype, attention = dtype or AUTO, attention or AUTO
    check_one_of("dtype", dtype, (*DTYPES, AUTO))
    check_one_of("attention", attention, (*ATTENTIONS, AUTO))
    fused = _is_ampere(device or jax.devices()[0])
    if dtype == AUTO:
        dtype = "bfloat16" if fused else "float32"
    if attention == AUTO:
        attention = "cudnn" if fused and dtype == "bfloat16" else "xla"
    return Precision(dtype, attention)


def check(precision: Precision, *, device: Any = None) -> Precision:
    """`precision`; InputError if a device, by default jax's first, lacks it."""
    device = device or jax.devices()[0]
    dtype, attention = precision
    if dtype == "bfloat16" and _is_ampere(device) is False:
        raise InputError(
            "model.dtype=bfloat16 needs a GPU of compute capability 8.0 or later; this "
            f"{device.device_kind} has {device.compute_capability}; set "
            "model.dtype=float32 or auto"
        )
    if attention == "cudnn" and not _is_ampere(device):
        raise InputError(
            "model.attention=cudnn needs an NVIDIA GPU of compute capability 8.0 or "
            f"later, this device is {device.device_kind}; set model.attention=xla or "
            "auto"
        )
    if attention == "cudnn" and dtype != "bfloat16":
        raise InputError(
            f"model.attention=cudnn needs model.dtype=bfloat16, got {dtype}; set one "
            "of the two to auto"
        )
    return precision


def supported(
    dtype: str | None = AUTO, attention: str | None = AUTO, *, device: Any = None
) -> Precision:
    """As `choose`, with both chosen anew if the device cannot compute with them.

    For weights, whose network may have been trained on another device.
    """
    try:
        return check(choose(dtype, attention, device=device), device=device)
    except InputError:
        return choose(device=device)


def _is_ampere(device: Any) -> bool | None:
    """Whether an NVIDIA GPU has compute capability 8.0; None for other devices."""
    if device.platform != "gpu":
        return None
    try:
        capability = tuple(int(part) for part in device.compute_capability.split("."))
    except ValueError:  # AMD's names, such as gfx90a
        return None
    return capability >= (8, 0)
