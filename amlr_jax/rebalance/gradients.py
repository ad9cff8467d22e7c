"""The gradients of several losses from one forward pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from amlr_jax.inputs import float_type
from amlr_jax.rebalance.loss_tree import LossTree, common_names, pack, unpack


class LossGradients(NamedTuple):
    """Losses and their gradients at the same parameters."""

    losses: LossTree  # n scalars
    # Arrays like the parameters, with a first axis of length n, in the order of
    # `jax.tree.leaves(losses)`; None where `subset` left out a parameter.
    gradients: Any
    aux: Any = None  # what the loss function returns beside the losses

    @property
    def gram(self) -> jax.Array:
        """The inner products of the gradients, shape=[n, n]."""
        return sum(  # type: ignore[return-value]
            jnp.einsum("ip,jp->ij", flat, flat, precision="highest")
            for flat in map(_flat, jax.tree.leaves(self.gradients))
        )

    @property
    def norms(self) -> LossTree:
        """The Euclidean norm of each gradient, a tree like the losses."""
        flat = map(_flat, jax.tree.leaves(self.gradients))
        squares = sum(jnp.sum(jnp.square(each), axis=1) for each in flat)
        names = common_names(losses=self.losses)
        return unpack(jnp.sqrt(squares), names, self.losses)

    def weighted(self, loss_weights: LossTree) -> Any:
        """The gradient of the weighted total, a tree like the parameters."""
        names = common_names(losses=self.losses, loss_weights=loss_weights)
        w = jax.lax.stop_gradient(pack(loss_weights, names))
        return jax.tree.map(
            lambda g: jnp.tensordot(w.astype(g.dtype), g, 1, precision="highest"),
            self.gradients,
        )


def per_loss_gradients(
    losses_fn: Callable[[Any], Any],
    params: Any,
    *,
    subset: Callable[[str], bool] | None = None,
    has_aux: bool = False,
) -> LossGradients:
    """The gradient of each loss; one forward pass and n backward passes.

    The backward passes are done together (`vmap`), and the gradients are held together:
    n times the parameters.

    Args:
      losses_fn: params -> a tree of scalar losses, or (losses, aux) with `has_aux`.
      params: a tree of arrays.
      subset: whether to differentiate with respect to a parameter, given its path as
        `jax.tree_util.keystr` writes it, as `lambda path: "last_layer" in path`. The
        backward pass ends where no parameter before is in it. None: all.
      has_aux: whether `losses_fn` returns something beside the losses.

    Returns:
      `LossGradients`: `losses`, `gradients`, `aux`, and from them `norms`, `gram` and
      `weighted(loss_weights)`, the gradient of the total without another backward pass.

    Raises:
      ValueError: no parameter is in `subset`; a loss is no scalar.

    >>> found = per_loss_gradients(lambda p: {"a": 3 * p, "b": p * p}, jnp.float32(2.0))
    >>> {name: float(norm) for name, norm in found.norms.items()}
    {'a': 3.0, 'b': 4.0}
    >>> float(found.weighted({"a": 1.0, "b": 0.5}))
    5.0
    """
    picked = params
    if subset is not None:
        picked = jax.tree_util.tree_map_with_path(
            lambda path, x: x if subset(jax.tree_util.keystr(path)) else None, params
        )
    if not jax.tree.leaves(picked):
        raise ValueError("`subset` must choose some of the parameters, got none.")

    def of_picked(picked: Any) -> Any:
        whole = jax.tree.map(
            lambda p, x: x if p is None else p, picked, params, is_leaf=_is_none
        )
        return losses_fn(whole)

    options: Any = {"has_aux": has_aux}
    losses, backward, *aux = jax.vjp(of_picked, picked, **options)
    gradients = each_gradient(losses, lambda cotangent: backward(cotangent)[0])
    return LossGradients(losses, gradients, aux[0] if has_aux else None)


def each_gradient(losses: LossTree, backward: Callable[[LossTree], Any]) -> Any:
    """The gradients of the losses, stacked, by the transposed derivative `backward`."""
    common_names(losses=losses)
    leaves, structure = jax.tree.flatten(losses)

    def of_one(row: jax.Array) -> Any:
        parts = (
            part.astype(leaf.dtype) for part, leaf in zip(row, leaves, strict=True)
        )
        return backward(jax.tree.unflatten(structure, parts))

    return jax.vmap(of_one)(jnp.eye(len(leaves), dtype=float_type(*leaves)))


def _flat(stacked: jax.Array) -> jax.Array:
    """[n, ...] as [n, p], in float32 at least."""
    return stacked.reshape(len(stacked), -1).astype(float_type(stacked))


def _is_none(leaf: Any) -> bool:
    return leaf is None
