"""An exported file is the network, runs where only jax is, and mistakes are a line."""

import importlib.metadata
import json
import subprocess
import sys
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.export import exporting
from amlr_jax.export import onnx as export_onnx
from amlr_jax.export import stablehlo as export_stablehlo
from amlr_jax.export.exported_network import Export, compare, portable
from amlr_jax.models import depth, pretrained
from amlr_jax.runtime.errors import InputError
from tests.conftest import REPOSITORY

SIZE = (40, 72)  # tiles neither into patches of all stages nor into windows
OPTIONS = {"max_depth": 10.0}
RUN = {"size": SIZE, "batch": "dynamic", "platforms": None}


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
    return exporting.run(checkpoint, folder, "stablehlo", **RUN)


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
    network, variables, _ = pretrained.load_network(checkpoint)
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
    settings = {"size": (32, 64), "batch": "1", "platforms": ["tpu"]}
    exporting.run(weights, path, "stablehlo", **settings)
    facts = json.loads((tmp_path / "new" / "mono.bin.json").read_text())
    assert facts["input"]["shape"] == [1, 32, 64, 3]
    assert facts["output"]["unit"] == "metres, up to one unknown factor"
    assert facts["check"] is None
    assert "not checked: no tpu device here" in capsys.readouterr().out


def test_a_file_that_is_not_the_network_is_not_left(checkpoint, tmp_path, monkeypatch):
    off = lambda data, image: np.full(image.shape[:3], np.nan)  # noqa: E731
    monkeypatch.setattr(export_stablehlo, "outcome", off)
    monkeypatch.setattr(export_stablehlo, "encoded", lambda *_: b"")
    with pytest.raises(InputError, match="is not the network's.*nothing was written"):
        exporting.run(checkpoint, tmp_path / "new" / "a.bin", "stablehlo", **RUN)
    assert not list(tmp_path.iterdir())


def test_check_finds_a_small_difference(tmp_path):
    network = SimpleNamespace(
        apply=lambda variables, image, train: variables + image.sum(-1),
        decoder=SimpleNamespace(dtype=jnp.float32),
    )
    shape, file = ("batch", *SIZE, 3), tmp_path / "depth"
    export = Export(network, 0.5, export_stablehlo, shape, ("cuda", "cpu"))

    def write(factor):
        forward = lambda image: factor * export.depth(image)  # noqa: E731
        file.write_bytes(export_stablehlo.encoded(forward, shape, ("cpu",)))

    write(1.0)
    check = compare(export, file)
    assert check.relative < 1e-6 and check.images == 2 and check.device == "cpu"
    write(1.001)
    with pytest.raises(InputError, match="difference is 1.0e-03, allowed are 1e-04"):
        compare(export, file)


def test_portable_drops_what_one_machine_has():
    options = {"dtype": "bfloat16", "remat": True, "attention": "cudnn"}
    options |= {"window_size": (4, 4, 4, 4)}
    network = depth.network("swin_v2_nano", **OPTIONS, **options)
    plain = portable(network, float32=True)
    assert plain.encoder.attention == "xla" and not plain.encoder.remat
    assert plain.encoder.dtype == plain.decoder.dtype == jnp.float32
    assert portable(network, float32=False).encoder.dtype == jnp.bfloat16
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
        ({"platforms": ["gpu"]}, "--platforms must be some of cpu, cuda, tpu, got"),
        ({"output": "a.onnx"}, "ends as a file of --format=onnx"),
        ({"output": "there.bin"}, "there.bin' exists; choose another"),
        ({"output": "half.bin"}, "half.bin.json' exists"),
        ({"output": "there.bin/a.bin"}, "cannot be written: no access"),
        ({"checkpoint": "absent"}, "absent' does not exist"),
        ({"checkpoint": "encoder"}, "no whole depth network, only encoder"),
        (
            {"checkpoint": "glp", "size": (28, 72)},
            "--height=28 --width=72 do not .* 29",
        ),
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
        exporting.run(*paths, "stablehlo", **arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_library_is_named_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "NEEDS", ("json", "no_such_library"))
    with pytest.raises(InputError, match=r"needs no_such_library, .*pip install -e"):
        exporting.run(tmp_path, tmp_path / "a.onnx", "onnx", **RUN)


def test_platforms_are_not_for_onnx(tmp_path):
    with pytest.raises(InputError, match="--platforms is for --format=stablehlo"):
        exporting.run(
            tmp_path, tmp_path / "a.onnx", "onnx", **RUN | {"platforms": ["cpu"]}
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--format=tflite"], "--format=tflite: value should be one of"),
        (["--format=onnx", "--height=0"], "--height"),
        (["--output=a"], "--format must have a value"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "amlr_jax.export", "--checkpoint=a", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# ---------------------------------------------------------------- layers for ONNX


@pytest.mark.parametrize("shape", [(2, 9, 14), (2, 9, 14, 3)])
@pytest.mark.parametrize("method", ["linear", "lanczos3"])
@pytest.mark.parametrize("antialias", [False, True])
def test_resizing_by_matrices(shape, method, antialias):
    x = np.random.default_rng(0).random(shape, np.float32)
    target = (2, 5, 31, *shape[3:])
    expected = jax.image.resize(x, target, method, antialias=antialias)
    found = export_onnx._resize(x, target, method, antialias=antialias)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_pooling_by_slices(size):
    x = np.random.default_rng(0).standard_normal((2, *size, 3), np.float32)
    arguments = {"padding": ((1, 1), (1, 1))}
    expected = nn.max_pool(x, (3, 3), (2, 2), **arguments)
    found = export_onnx._max_pool(x, (3, 3), (2, 2), **arguments)
    np.testing.assert_array_equal(found, expected)


def test_networks_take_the_layers_for_onnx():
    network = depth.network("monodepth2", max_depth=100.0, input_scale=0.5)
    shapes = depth.variable_shapes(network)
    image = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)

    def primitives() -> set[str]:
        apply = lambda v, x: network.apply(v, x, train=False)  # noqa: E731
        graph = jax.make_jaxpr(apply)(shapes, image)
        return {equation.primitive.name for equation in graph.eqns}

    before = jax.image.resize, nn.max_pool
    assert "reduce_window_max" in primitives()
    with pytest.raises(ZeroDivisionError), export_onnx._convertible_layers():
        assert jax.image.resize is not before[0]
        assert "reduce_window_max" not in primitives()
        raise ZeroDivisionError
    assert (jax.image.resize, nn.max_pool) == before


def _has_onnx() -> bool:
    try:
        return bool([importlib.metadata.version(name) for name in export_onnx.NEEDS])
    except importlib.metadata.PackageNotFoundError:
        return False


if _has_onnx():  # in an environment of its own, see the extra "onnx"

    @pytest.mark.parametrize("batch", ["1", "dynamic"])
    def test_onnx_is_the_network(checkpoint, tmp_path, batch):
        settings = RUN | {"batch": batch}
        path = exporting.run(checkpoint, tmp_path / "a.onnx", "onnx", **settings)
        facts = json.loads((tmp_path / "a.onnx.json").read_text())
        assert facts["check"]["relative"] < 1e-5
        image = np.random.default_rng(1).random((1, *SIZE, 3), np.float32)
        network, variables, _ = pretrained.load_network(checkpoint)
        found = export_onnx.outcome(path.read_bytes(), image)
        expected = network.apply(variables, image, train=False)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
