"""Data sets prepared once with tensorflow-datasets, without TensorFlow.

Every file is checked while it is copied into array_record shards, so that a damaged
file is found before training starts. A prepared set is named by the fingerprint of its
files and reused until one of them changes. It is written atomically: the next
preparation removes the remains of an interrupted one.

`depth_frames` prepares frames with depth, `data.views.prepare` images for
self-supervision; `shards` is shared by both.
"""

from amlr_jax.data.prepared.depth_frames import Prepared, prepare
from amlr_jax.data.prepared.shards import cache_folder

__all__ = ["Prepared", "cache_folder", "prepare"]
