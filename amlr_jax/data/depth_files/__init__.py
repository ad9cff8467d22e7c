"""Ground truth in files of any known format, checked and brought to one unit.

`reading` knows the formats by their endings; `exr` and `velodyne` read what NumPy,
OpenCV and Pillow do not.
"""

from amlr_jax.data.depth_files.reading import (
    FORMATS,
    Depth,
    SizeMismatch,
    count_scale,
    read,
    stored_scale,
)

__all__ = ["FORMATS", "Depth", "SizeMismatch", "count_scale", "read", "stored_scale"]
