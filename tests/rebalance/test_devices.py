"""Losses of a batch on eight devices give the weights of one device."""

import json

import numpy as np
import pytest

from tests import devices

PROGRAM = """
import json, jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from amlr_jax import rebalance
from tests.rebalance.test_rules import RULES, arguments, start

mesh = jax.make_mesh((len(jax.devices()),), ("batch",))
sharded, everywhere = NamedSharding(mesh, P(None, "batch")), NamedSharding(mesh, P())
errors = np.random.default_rng(0).lognormal(0.0, 0.5, (8, 16, 2)).astype(np.float32)
errors = jax.device_put(errors * [0.1, 0.02], sharded)

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

carry, path = run(errors)
for leaf in jax.tree.leaves((carry, path)):
    shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
    assert all(np.array_equal(shard, np.asarray(leaf)) for shard in shards)
path = {n: {k: np.asarray(w).tolist() for k, w in p.items()} for n, p in path.items()}
print(json.dumps({"devices": len(jax.devices()), "path": path}))
"""


def run_on(count: int) -> dict:
    return json.loads(devices.run(PROGRAM, devices=count).splitlines()[-1])


@pytest.fixture(scope="module")
def runs():
    return run_on(1), run_on(8)


def test_eight_devices_give_one_devices_weights(runs):
    one, eight = runs
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert one["path"].keys() == eight["path"].keys()
    for name, weights in one["path"].items():
        for key, expected in weights.items():
            np.testing.assert_allclose(
                eight["path"][name][key], expected, rtol=2e-6, err_msg=f"{name} {key}"
            )
