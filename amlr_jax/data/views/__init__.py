"""Views for self-supervised training: an image with its neighbours.

`prepare` keeps the images (`images`) and what makes a view of them (`index`), `loader`
makes batches, changed by `augment` and `jitter`.
"""

from amlr_jax.data.views.prepare import PreparedViews, prepare_views

__all__ = ["PreparedViews", "prepare_views"]
