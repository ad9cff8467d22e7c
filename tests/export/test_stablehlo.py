"""An exported file is the network, runs where only jax is, and mistakes are a line."""

import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from amlr_jax.export import stablehlo
from amlr_jax.models import depth, pretrained
from amlr_jax.runtime.errors import InputError
from tests.conftest import REPOSITORY

SIZE = (40, 72)  # tiles neither into patches of all stages nor into windows
OPTIONS = {"max_depth": 10.0}
RUN = dict(zip(("height", "width"), SIZE, strict=True))


def random_variables(network) -> dict:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (0.05 * rng.standard_normal(leaf.shape) + (leaf.ndim == 1)).astype(
            np.float32
        ),
        depth.variable_shapes(network),
    )


def save(folder, name, **options):
    """Weights of a whole network, as `convert` would write them."""
    network = depth.network(name, **options)
    model = {"source": "test", "name": name, "options": options}
    model |= {"complete": True, "parts": ["encoder", "decoder"]}
    pretrained.save(folder, random_variables(network), model)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "nano"
    return save(folder, "swin_v2_nano", input_scale=0.5, **OPTIONS)


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The nano network as StableHLO for any number of images."""
    folder = tmp_path_factory.mktemp("exported")
    return stablehlo.run(checkpoint, folder, **RUN)


# Runs the lines of the JSON and nothing else: jax and NumPy, no library of ours.
LOADER = """
import sys
blocked = ["amlr_jax", "flax", "orbax", "optax", "einops"]
sys.modules.update(dict.fromkeys(blocked))
import json
import numpy as np
facts = json.load(open(sys.argv[1]))
for batch in (1, 3):
    image = np.load(f"image{batch}.npy")
    names = {"image": image}
    exec("\\n".join(facts["load"]), names)
    np.save(f"depth{batch}.npy", names["depth"])
"""


def test_runs_with_jax_alone_as_the_json_says(exported, checkpoint):
    folder = exported.parent
    images = np.random.default_rng(1).random((3, *SIZE, 3), np.float32)
    for n in (1, 3):
        np.save(folder / f"image{n}.npy", images[:n])
    command = [sys.executable, "-c", LOADER, f"{exported.name}.json"]
    subprocess.run(command, cwd=folder, check=True)
    network, variables, *_ = pretrained.load_network(checkpoint)
    expected = jax.jit(lambda x: network.apply(variables, x, train=False))(images)
    for n in (1, 3):
        found = np.load(folder / f"depth{n}.npy")
        assert found.dtype == np.float32
        assert np.ptp(found) > 0.1  # metres: it depends on the image
        np.testing.assert_allclose(found, expected[:n], rtol=1e-5)


def test_json_says_what_goes_in_and_out(exported):
    facts = json.loads(exported.with_name(f"{exported.name}.json").read_text())
    assert exported.name == facts["file"] == "depth.stablehlo"
    assert facts["input"]["shape"] == ["batch", *SIZE, 3]
    assert facts["input"]["range"] == [0, 1]
    assert facts["output"]["shape"] == ["batch", *SIZE]
    assert facts["output"]["unit"] == "metres"
    assert facts["max_depth"] == 10
    assert facts["format"]["platforms"] == ["cpu", "cuda"]
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["check"]["images"] == 2
    assert facts["check"]["relative"] < 1e-5


def test_one_batch_size_one_platform_and_an_unknown_scale(tmp_path, capsys):
    weights = save(tmp_path / "weights", "monodepth2", max_depth=100.0)
    path = tmp_path / "new" / "mono.bin"
    settings = {"height": 32, "width": 64, "batch": "1", "platforms": ["tpu", "gpu"]}
    stablehlo.run(weights, path, **settings)
    facts = json.loads((tmp_path / "new" / "mono.bin.json").read_text())
    assert facts["input"]["shape"] == [1, 32, 64, 3]
    assert facts["output"]["unit"] == "metres, up to one unknown factor"
    assert facts["check"] is None
    assert "not checked: no tpu, cuda device here" in capsys.readouterr().out


def test_a_file_that_is_not_the_network_is_not_left(checkpoint, tmp_path, monkeypatch):
    encoded = stablehlo.encoded
    off = lambda forward: lambda image: jnp.nan * forward(image)  # noqa: E731
    monkeypatch.setattr(stablehlo, "encoded", lambda f, *rest: encoded(off(f), *rest))
    with pytest.raises(InputError, match="is not the network's.*nothing was written"):
        stablehlo.run(checkpoint, tmp_path / "new" / "a.bin", **RUN)
    assert not list(tmp_path.iterdir())


def test_check_finds_a_small_difference():
    network = SimpleNamespace(
        apply=lambda variables, image, train: variables + image.sum(-1),
        decoder=SimpleNamespace(dtype=jnp.float32),
    )

    def exported(factor):
        forward = lambda image: factor * network.apply(0.5, image, False)  # noqa: E731
        data = stablehlo.encoded(forward, ("batch", *SIZE, 3), ("cuda", "cpu"))
        return export.deserialize(bytearray(data))

    check = stablehlo.compare(network, 0.5, exported(1.0))
    assert check["relative"] < 1e-6
    assert (check["images"], check["device"]) == (2, "cpu")
    with pytest.raises(InputError, match="difference is 1.0e-03, allowed are 1e-04"):
        stablehlo.compare(network, 0.5, exported(1.001))


def test_portable_drops_what_one_machine_has():
    options = {"dtype": "bfloat16", "remat": True, "attention": "cudnn"}
    options |= {"window_size": (4, 4, 4, 4)}
    network = depth.network("swin_v2_nano", **OPTIONS, **options)
    plain = stablehlo.portable(network)
    assert plain.encoder.attention == "xla" and not plain.encoder.remat
    assert plain.encoder.dtype == jnp.bfloat16
    shapes = depth.variable_shapes(plain)
    jax.tree.map(lambda a, b: None, shapes, random_variables(plain))
    image = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
    jax.eval_shape(lambda v, x: plain.apply(v, x, train=False), shapes, image)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": "0"}, "--batch must be dynamic or at least 1, got '0'"),
        ({"batch": "some"}, "--batch must be dynamic or at least 1, got 'some'"),
        ({"platforms": ["rocm"]}, "--platforms must be one of cpu, cuda, tpu; got"),
        ({"output": "there.bin"}, "there.bin' exists; choose another"),
        ({"output": "half.bin"}, "half.bin.json' exists"),
        ({"output": "there.bin/a.bin"}, "cannot be made: .* is a file"),
        ({"checkpoint": "absent"}, "absent' does not exist"),
        ({"checkpoint": "encoder"}, "no whole depth network, only encoder"),
        ({"height": 28}, "--height=28 --width=72 do not .* 29"),
        ({"width": None}, "glp' does not tell the size .*; give --height and --width"),
    ],
)
def test_mistakes_are_reported_and_leave_nothing(change, message, tmp_path):
    (tmp_path / "there.bin").touch()
    (tmp_path / "half.bin.json").touch()
    save(tmp_path / "glp", "glpdepth_b0", **OPTIONS)
    encoder = {"params": {"encoder": {"kernel": np.zeros(3, np.float32)}}}
    model = {"source": "test", "name": "swin_v2_nano", "options": OPTIONS}
    model |= {"complete": False, "parts": ["encoder"]}
    pretrained.save(tmp_path / "encoder", encoder, model)
    before = sorted(tmp_path.rglob("*"))
    arguments = {"checkpoint": "glp", "output": "new/a.bin", **RUN, **change}
    paths = [tmp_path / arguments.pop(name) for name in ("checkpoint", "output")]
    with pytest.raises(InputError, match=message):
        stablehlo.run(*paths, **arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mistake_on_the_command_line_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "amlr_jax.export", "--checkpoint=a", "--format=onnx"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and "--format=onnx: value should be one" in line
