"""Model FLOPs of a step, and the peak of devices: the two parts of MFU.

Model FLOPs (Chowdhery et al. 2022, PaLM, appendix B) are those of the matrix products
and convolutions that the equations of the step need, whatever computes them: counted on
the jaxpr, before XLA replaces products by calls of cuBLAS, cuDNN and Triton, which its
own cost analysis does not count. A multiplication with its addition is 2 FLOPs.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core

from amlr_jax.models.convolution import MODEL_FLOPS_TIMES

# Name scope of what is computed a second time to save memory, which is no model FLOP.
# JAX gives this name to the forward pass that `jax.checkpoint` repeats.
RECOMPUTED = "rematted_computation"
# The primitives of `jax.nn.dot_product_attention` with cuDNN, and the matrix products
# that their equations have of each of the two kinds, q k^T and p v.
_CUDNN_ATTENTION = {"dot_product_attention_fwd": 1, "dot_product_attention_bwd": 2}


def model_flops(jaxpr: Any) -> int:
    """Model FLOPs of one evaluation of a jaxpr, on all devices together.

    `jaxpr` is that of `jax.make_jaxpr(f)(...)` or `jax.jit(f).trace(...)`. Inner
    jaxprs count as well, the body of a `scan` once per iteration, the body of a
    `shard_map` once per shard and the most expensive branch of a `cond`. Left out are
    equations whose results nothing reads, what `jax.checkpoint` or the name scope
    `RECOMPUTED` repeats, and multiplications by the zeros that a transposed convolution
    inserts. The name scope `MODEL_FLOPS_TIMES` multiplies the count of what is in it.
    cuDNN's attention counts as the products that it replaces: two forward, four
    backward. The body of a `while` loop counts once; its number of iterations is
    unknown.

    >>> import jax, jax.numpy as jnp
    >>> model_flops(jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 3)), jnp.ones((3, 5))))
    60
    """
    total = 0
    for equation in _needed(getattr(jaxpr, "jaxpr", jaxpr)):
        scope = str(equation.source_info.name_stack)
        if RECOMPUTED not in scope:
            factor = re.search(MODEL_FLOPS_TIMES + r"([\d.]+)", scope)
            total += round(float(factor[1] if factor else 1) * _of_equation(equation))
    return total


def _needed(jaxpr: core.Jaxpr) -> Iterator[Any]:
    """The equations with effects or results that are read, from the last on."""
    read = {x for x in jaxpr.outvars if isinstance(x, core.Var)}
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not read.isdisjoint(equation.outvars):
            read.update(x for x in equation.invars if isinstance(x, core.Var))
            yield equation


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    shapes = [x.aval.shape for x in equation.invars]
    results = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * results * math.prod(shapes[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        features = shapes[1][params["dimension_numbers"].rhs_spec[0]]
        taps = math.prod(shapes[1]) // features
        return 2 * results * taps // math.prod(params["lhs_dilation"])
    if kind := _CUDNN_ATTENTION.get(name.removesuffix("_wrapper")):
        query, key, value = shapes[:3]
        keys = key[2 if params["layout"] else 1]  # BNTH or BTNH
        outputs = math.prod(query[:-1]) * value[-1]
        return kind * 2 * keys * (math.prod(query) + outputs)
    inner = [model_flops(jaxpr) for jaxpr in _inner(params)]
    if name == "cond":
        return max(inner)
    return _repeats(name, params) * sum(inner)


def _inner(params: dict) -> Iterator[Any]:
    """The jaxprs among the parameters of an equation."""
    jaxprs = (core.Jaxpr, core.ClosedJaxpr)
    for leaf in jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, jaxprs)):
        if isinstance(leaf, jaxprs):
            yield leaf


def _repeats(name: str, params: dict) -> int:
    """How often the inner jaxprs of an equation are evaluated, on different data."""
    if name == "scan":
        return params["length"]
    if name == "shard_map":
        split = jax.tree.leaves([tuple(spec) for spec in params["in_specs"]])
        return math.prod(params["mesh"].shape[axis] for axis in set(split))
    return 1


# Peak of dense matrix products in 1e12 flop/s: (bfloat16, float32), without structured
# sparsity. float32 is TF32 where the GPU has it, XLA's default there. Sources: NVIDIA's
# data sheets; for RTX the white papers GA102 and Ada (Appendix A), with float32
# accumulation. V100 and T4 have no bfloat16. Names are `jax.Device.device_kind`; the
# instances of a divided GPU ("... MIG 1g.18gb") have no entry.
_PEAKS = (
    (r"A100[- ].*", 312.0, 156.0),
    (r"H100 80GB HBM3", 989.4, 494.7),  # SXM
    (r"H100 PCIe", 756.0, 378.0),
    (r"H100 NVL", 835.5, 417.5),
    (r"H200", 989.4, 494.7),
    (r"H200 NVL", 835.5, 417.5),
    (r"B200", 2250.0, 1125.0),
    (r"L40S", 362.0, 183.0),
    (r"L4", 121.0, 60.0),
    (r"V100-SXM[23]-.*", None, 15.7),
    (r"V100-PCIE-.*", None, 14.0),
    (r"T4", None, 8.1),
    (r"GeForce RTX 3090", 71.0, 35.6),
    (r"GeForce RTX 4090", 165.2, 82.6),
)


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Floating point operations per second of one device; None if unknown.

    `dtype` is that of the matrix products, float32 or bfloat16.
    """
    name = re.sub(r"^(NVIDIA|Tesla) ", "", device_kind)
    if "MIG" in name:
        return None
    for pattern, bfloat16, float32 in _PEAKS:
        if re.fullmatch(pattern, name):
            peak = bfloat16 if dtype == "bfloat16" else float32
            return None if peak is None else 1e12 * peak
    return None
