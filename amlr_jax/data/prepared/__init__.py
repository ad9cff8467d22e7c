"""Data sets prepared once as tensorflow-datasets data sets, without TensorFlow.

Every file is checked while it is copied into array_record shards, so that a fault is
found in the first minutes and not in the middle of a run. A prepared set is named by
the fingerprint of its files and reused until one of them changes. It appears whole or
not at all: what an interrupted preparation left is removed by the next.

`layouts` prepares frames with depth, `data.views` views on the same terms: `builder`
is what both have in common, and `shards` writes and reads the files.
"""

from amlr_jax.data.prepared.layouts import Prepared, default_cache, prepare

__all__ = ["Prepared", "default_cache", "prepare"]
