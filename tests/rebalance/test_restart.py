"""Weights and state go through an orbax checkpoint in mid-run, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.rebalance.test_rules import LOSSES, RULES, _jitted, assert_same, start

AT = 7  # inside the windows of 2 and 3, and behind the conventions of the first steps


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """Every rule's weights and state after `AT` steps, saved and restored at once."""
    saved = {}
    for name, rule in RULES.items():
        carry = start(rule)
        for row in jnp.asarray(LOSSES[:AT], jnp.float32):
            carry = _jitted(rule)(carry, row)
        saved[name] = carry
    folder = tmp_path_factory.mktemp("restart") / "checkpoint"
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), saved
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, saved)
        checkpointer.wait_until_finished()
        return saved, checkpointer.restore(folder, shapes)


@pytest.mark.parametrize("name", RULES)
def test_restored_run_continues_bit_for_bit(restored, name):
    carry, other = (carries[name] for carries in restored)
    assert_same(other, carry, rtol=0.0, atol=0.0)
    for row in jnp.asarray(LOSSES[AT:], jnp.float32):
        carry, other = (_jitted(RULES[name])(c, row) for c in (carry, other))
        assert_same(other, carry, rtol=0.0, atol=0.0)


def test_the_checkpoint_is_taken_inside_a_window(restored):
    windows = {n: c[1] for n, c in restored[1].items() if n.startswith("every")}
    assert len(windows) >= 5
    for state in windows.values():
        assert int(state.count) > 0
        assert all(np.asarray(mean) > 0 for mean in state.mean.values())
