"""In which dtype, and with which attention kernel, a network computes on a device.

"auto" is bfloat16 with cuDNN's fused attention on an NVIDIA GPU of compute capability
8.0 or later (A100, RTX 30 and newer), and float32 with XLA's attention elsewhere.
"""

from typing import Any, NamedTuple

import jax

from amlr_jax.models.layers import check_one_of
from amlr_jax.runtime.errors import InputError

AUTO = "auto"
DTYPES = ("float32", "bfloat16")
ATTENTIONS = ("xla", "cudnn")
_AMPERE = (8, 0)


class Precision(NamedTuple):
    """What a network computes with."""

    dtype: str  # of the matrix products, one of `DTYPES`
    attention: str  # one of `ATTENTIONS`

    def __str__(self) -> str:
        return f"{self.dtype} with {self.attention} attention"


def resolve(
    dtype: str | None = AUTO, attention: str | None = AUTO, *, device: Any = None
) -> Precision:
    """The `Precision` of a device, by default jax's first one.

    A value other than "auto" is kept; None is "auto". Raises ValueError for an unknown
    value, and InputError for one that the device cannot compute with.
    """
    dtype, attention = dtype or AUTO, attention or AUTO
    check_one_of("dtype", dtype, (*DTYPES, AUTO))
    check_one_of("attention", attention, (*ATTENTIONS, AUTO))
    device = device or jax.devices()[0]
    capability = _compute_capability(device)
    fused = capability is not None and capability >= _AMPERE
    if dtype == AUTO:
        dtype = "bfloat16" if fused else "float32"
    if attention == AUTO:
        attention = "cudnn" if fused and dtype == "bfloat16" else "xla"
    if dtype == "bfloat16" and capability is not None and not fused:
        raise InputError(
            "model.dtype=bfloat16 needs a GPU of compute capability 8.0 or later; this "
            f"{device.device_kind} has {device.compute_capability}; set "
            "model.dtype=float32 or auto"
        )
    if attention == "cudnn" and not fused:
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
    return Precision(dtype, attention)


def supported(
    dtype: str | None = AUTO, attention: str | None = AUTO, *, device: Any = None
) -> Precision:
    """As `resolve`, but what the device cannot compute with is "auto".

    For weights, whose network may have been trained on another device.
    """
    try:
        return resolve(dtype, attention, device=device)
    except InputError:
        return resolve(device=device)


def _compute_capability(device: Any) -> tuple[int, ...] | None:
    """That of an NVIDIA GPU, such as (9, 0); None for other devices."""
    if device.platform != "gpu":
        return None
    try:
        return tuple(int(part) for part in device.compute_capability.split("."))
    except ValueError:  # AMD's names, such as gfx90a
        return None
