"""Losses of a batch on eight devices give the weights of one device."""

import json

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests import devices
from tests.rebalance.test_rules import RULES, arguments, start


def path() -> dict:
    """The weights of each rule by step, the batch split over all devices."""
    mesh = jax.make_mesh((len(jax.devices()),), ("batch",))
    errors = np.random.default_rng(0).lognormal(0.0, 0.5, (8, 16, 2))
    errors = errors.astype(np.float32) * np.float32([0.1, 0.02])
    errors = jax.device_put(errors, NamedSharding(mesh, P(None, "batch")))

    def step(carry, batch):
        out = {}
        for name, rule in RULES.items():
            means = {key: batch[:, i].mean() for i, key in enumerate("ab")}
            out[name] = rule.update(*carry[name], **arguments(means["a"], means["b"]))
        return out, {name: weights for name, (weights, _) in out.items()}

    @jax.jit
    def run(errors):
        carry = {name: start(rule) for name, rule in RULES.items()}
        return jax.lax.scan(step, carry, errors)

    carry, weights = run(errors)
    for leaf in jax.tree.leaves((carry, weights)):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert all(np.array_equal(shard, np.asarray(leaf)) for shard in shards)
    return jax.tree.map(lambda w: np.asarray(w).tolist(), weights)


PROGRAM = """
import json, jax
from tests.rebalance.test_devices import path
assert len(jax.devices()) == 8
print(json.dumps(path()))
"""


def test_eight_devices_give_one_devices_weights():
    eight, one = json.loads(devices.run(PROGRAM, devices=8).splitlines()[-1]), path()
    assert one.keys() == eight.keys()
    for name, weights in one.items():
        for key, expected in weights.items():
            np.testing.assert_allclose(
                eight[name][key], expected, rtol=2e-6, err_msg=f"{name} {key}"
            )
