"""Peak speeds of devices, for the share of them that a run reaches."""

import re

# Dense matrix products, in 1e12 flop/s, as (bfloat16, float32), without the factor two
# of structured sparsity. float32 is TF32 where there are such units, because that is
# what XLA takes by default there. NVIDIA's data sheets of each; RTX: white papers
# GA102 (Appendix A) and Ada (Appendix A), with float32 accumulation; V100 and T4 have
# no bfloat16. Names are those of `jax.Device.device_kind`; an instance of a divided
# GPU ("... MIG 1g.18gb") has another and is not here.
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
    """Floating point operations a second of one device, or None where unknown.

    `dtype` is float32 or bfloat16, that of the matrix products.
    """
    name = re.sub(r"^(NVIDIA|Tesla) ", "", device_kind)
    if "MIG" in name:
        return None
    for pattern, bfloat16, float32 in _PEAKS:
        if re.fullmatch(pattern, name):
            peak = bfloat16 if dtype == "bfloat16" else float32
            return None if peak is None else 1e12 * peak
    return None
