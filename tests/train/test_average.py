"""The moving average of the weights: its values, and that it is what is used."""

import json
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.checkpoints import arrays, disk
from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.models import pretrained
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import loop
from amlr_jax.train.optimizer import moving_average
from amlr_jax.train.step import compile_step, evaluated
from tests import devices
from tests.checkpoints.test_manager import assert_same_state
from tests.train import toy


def weighted_mean(values: list, decay: float) -> np.ndarray:
    """The mean with weights decay^age, in float64."""
    weights = decay ** np.arange(len(values))[::-1]
    return np.tensordot(weights / weights.sum(), np.float64(values), axes=1)


@pytest.mark.parametrize("decay", [0.1, 0.9, 0.9999])
@pytest.mark.parametrize("jit", [False, True])
def test_it_is_a_weighted_mean(decay, jit):
    values = np.random.default_rng(0).normal(size=(30, 3, 2)).astype(np.float32)
    average, count = {"a": jnp.full((3, 2), 99.0)}, 0

    def add(average, new, count):
        return moving_average(average, new, decay=decay, count=count)

    add = jax.jit(add) if jit else add
    for count, value in enumerate(values, 1):
        average = add(average, {"a": value}, count)
    want = weighted_mean(values, decay)
    np.testing.assert_allclose(average["a"], want, atol=2e-6)


@pytest.mark.parametrize("decay", [0.3, 0.999999])
def test_what_does_not_change_stays_bit_for_bit(decay):
    value = jnp.asarray(np.random.default_rng(1).normal(size=50), jnp.float32)
    for count in (1, 2, 10**6):
        got = moving_average(value, value, decay=decay, count=jnp.int32(count))
        np.testing.assert_array_equal(got, value)


@pytest.fixture(scope="module")
def runs() -> list:
    """The states of five steps, one of them skipped, with an average and without."""
    found, batches = [], toy.batches(5)
    for batch in batches:
        batch["image"] = batch["image"].astype(np.float32) / 255
    batches[2]["image"][0, 0, 0] = np.nan
    for ema in (0.8, 0.0):
        made = toy.pieces(ema=ema)
        mesh = parallel.make_mesh()
        step, states = compile_step(mesh, **made), []
        state = jax.device_put(toy.initial(made), parallel.replicated(mesh))
        for batch in batches:
            states.append(jax.device_get(state._replace(key=None)))
            state, _ = step(state, parallel.put_local(batch, mesh))
        found.append([*states, state])
    return found


def test_the_average_of_a_run(runs):
    """Of parameters and batch statistics, over the steps that were taken."""
    (_, *states), _ = runs
    assert int(states[-1].skipped.total) == 1
    taken = [state for i, state in enumerate(states) if i != 2]
    for name in ("params", "batch_stats"):
        each = zip(*(jax.tree.leaves(getattr(s, name)) for s in taken), strict=True)
        got = jax.tree.leaves(states[-1].average[name])
        for values, average in zip(each, got, strict=True):
            np.testing.assert_allclose(average, weighted_mean(values, 0.8), atol=1e-6)
    assert_same_state(states[2].average, states[1].average)
    assert evaluated(states[-1]) is states[-1].average


def test_training_does_not_depend_on_it(runs):
    (*_, averaged), (*_, plain) = runs
    assert plain.average is None
    assert_same_state(averaged._replace(average=None), plain)
    assert evaluated(plain)["params"] is plain.params


def test_a_checkpoint_holds_it_and_readers_take_it(runs, tmp_path):
    """Without it the names on disk are those of before there were averages."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for name, (*_, state) in zip(("averaged", "plain"), runs, strict=True):
        folder = tmp_path / name
        with closing(Checkpoints(folder, keep=1)) as checkpoints:
            checkpoints.save(state, step=5)
            checkpoints.wait()
            restored, _ = checkpoints.restore_newest(state, one)
        assert_same_state(restored, state)
        path = folder / "00000005" / disk.STATE
        assert_same_state(arrays.load(path), evaluated(state))
        metadata = json.loads((path / "_METADATA").read_text())["tree_metadata"]
        names = {entry["key_metadata"][0]["key"] for entry in metadata.values()}
        assert names - {"average"} == {*state._fields} - {"average"}
        assert ("average" in names) == (name == "averaged")


PROGRAM = """
import json, jax, optax
from jax.sharding import Mesh
from amlr_jax.runtime import mesh as parallel
from amlr_jax.train import freezing, optimizer
from tests.train import sharded, toy

made = toy.pieces(ema=0.8)
frozen = freezing.frozen(toy.initial(made).params, ["Conv_0"])
made["optimizer"] = optimizer.freezing(made["optimizer"], frozen)
made["objective"] = freezing.without_gradient(made["objective"], frozen)
many = parallel.make_mesh(fsdp=2)
one = Mesh(many.devices[:1, :1], parallel.AXES)
out = {}
for name, mesh in {"many": many, "one": one}.items():
    for parts in (1, 2):
        state = sharded.trained(made | {"accumulate": parts}, mesh, steps=6)
        lies = [x.sharding == y.sharding for x, y in zip(
            jax.tree.leaves(state.average["params"]), jax.tree.leaves(state.params))]
        assert all(lies)
        kept = parallel.gathered(state.average, mesh)
        out[f"{name}{parts}"] = [x.tolist() for x in jax.tree.leaves(kept)]
print(json.dumps(out))
"""


def test_several_devices_with_a_frozen_layer_give_the_average_of_one():
    """Sharded over two of four devices, and with batches in two parts."""
    found = json.loads(devices.run(PROGRAM, devices=4))
    for parts in "12":
        for one, many in zip(found["one" + parts], found["many" + parts], strict=True):
            np.testing.assert_allclose(many, one, atol=1e-5)


class Watch:
    """A run's evaluator that keeps what it is given."""

    def __init__(self, run):
        self.given = {}
        self.mesh = run.mesh

    def start(self, parameters):
        pass

    def evaluate(self, variables, step):
        self.given[step] = jax.device_get(variables)

    finish = prepare = evaluate


def test_a_run_with_a_frozen_encoder(tiny_config, tmp_path, capsys):
    """Evaluated, saved and read as averages; a resumed run is the whole one."""
    tiny_config.optimizer.ema, tiny_config.optimizer.freeze = 0.7, ("encoder",)
    tiny_config.steps, watches = 4, []

    def watch(run):
        watches.append(Watch(run))
        return watches[-1]

    whole = loop.train(tiny_config, tmp_path / "run", make_evaluator=watch)
    said = " ".join(capsys.readouterr().out.split())
    assert "of them frozen, (evaluated: averages, 0.7) on" in said
    _, variables, *_ = pretrained.load_network(tmp_path / "run")
    for got in (watches[0].given[4], variables):
        assert_same_state(got, jax.device_get(whole.average))
    moved = jax.tree.map(np.array_equal, whole.params, whole.average["params"])
    assert all(jax.tree.leaves(moved["encoder"]))
    assert not any(jax.tree.leaves(moved["decoder"]["head_depth"]))
    (tmp_path / "run/checkpoints/00000004").rename(tmp_path / "lost")
    resumed = loop.train(tiny_config, tmp_path / "run", make_evaluator=watch)
    assert_same_state(resumed, whole)
    tiny_config.optimizer.ema = 0.0
    with pytest.raises(InputError, match=r"another run \(optimizer.ema was 0.7, now"):
        loop.train(tiny_config, tmp_path / "run", make_evaluator=watch)
