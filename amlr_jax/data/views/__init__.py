"""Views for self-supervised training: an image with its neighbours.

`index` selects the views, `prepare` stores their images, `augment` augments a view, and
`batches` makes the batches of a config.
"""

from amlr_jax.data.views.prepare import PreparedViews, prepare_views

__all__ = ["PreparedViews", "prepare_views"]
