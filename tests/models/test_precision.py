"""What a network computes with: on simulated GPUs, on this CPU, in a resumed run."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from amlr_jax.config import base
from amlr_jax.models import depth, precision
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import build


def gpu(name: str, capability: str):
    return SimpleNamespace(
        platform="gpu", device_kind=name, compute_capability=capability
    )


H100, A100, B200 = (
    gpu("NVIDIA H100", "9.0"),
    gpu("NVIDIA A100", "8.0"),
    gpu("B200", "10.0"),
)
V100, MI250 = gpu("Tesla V100", "7.0"), gpu("AMD MI250", "gfx90a")
CPU = SimpleNamespace(platform="cpu", device_kind="cpu")


@pytest.mark.parametrize(
    ("device", "dtype", "attention", "expected"),
    [
        (H100, "auto", "auto", ("bfloat16", "cudnn")),
        (A100, "auto", "auto", ("bfloat16", "cudnn")),
        (B200, None, None, ("bfloat16", "cudnn")),
        (H100, "float32", "auto", ("float32", "xla")),
        (H100, "bfloat16", "auto", ("bfloat16", "cudnn")),
        (H100, "auto", "xla", ("bfloat16", "xla")),
        (H100, "auto", "cudnn", ("bfloat16", "cudnn")),
        (V100, "auto", "auto", ("float32", "xla")),
        (MI250, "auto", "auto", ("float32", "xla")),
        (MI250, "bfloat16", "auto", ("bfloat16", "xla")),
        (CPU, "auto", "auto", ("float32", "xla")),
        (CPU, "bfloat16", "auto", ("bfloat16", "xla")),
    ],
)
def test_choice(device, dtype, attention, expected):
    chosen = precision.choose(dtype, attention, device=device)
    assert precision.check(chosen, device=device) == expected
    assert precision.supported(dtype, attention, device=device) == expected


@pytest.mark.parametrize(
    ("device", "dtype", "attention", "message"),
    [
        (CPU, "auto", "cudnn", "model.attention=cudnn needs an NVIDIA GPU .* is cpu"),
        (CPU, "bfloat16", "cudnn", "model.attention=cudnn needs an NVIDIA GPU"),
        (MI250, "auto", "cudnn", "this device is AMD MI250"),
        (V100, "auto", "cudnn", "this device is Tesla V100"),
        (V100, "bfloat16", "auto", "dtype=bfloat16 needs .* Tesla V100 has 7.0"),
        (H100, "float32", "cudnn", "needs model.dtype=bfloat16, got float32"),
    ],
)
def test_what_a_device_cannot_do_is_one_line(device, dtype, attention, message):
    with pytest.raises(InputError, match=message) as raised:
        precision.check(
            precision.choose(dtype, attention, device=device), device=device
        )
    assert "\n" not in str(raised.value)
    found = precision.supported(dtype, attention, device=device)
    assert found == precision.choose(device=device)


@pytest.mark.parametrize("key", ["dtype", "attention"])
def test_unknown_values_list_the_known_ones(key):
    with pytest.raises(ValueError, match=f"`{key}` must be one of .*, auto, got 'x'"):
        precision.choose(**{key: "x"})


@pytest.mark.parametrize("name", ["swin_v2_nano", "glpdepth_b0", "monodepth2"])
def test_a_network_knows_its_precision(name):
    made = depth.network(name, max_depth=80.0)
    assert depth.precision_of(made) == ("float32", "xla")
    made = depth.network(name, max_depth=80.0, dtype="bfloat16")
    assert depth.precision_of(made) == ("bfloat16", "xla")
    assert made.encoder.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ["monodepth2", "five_level"])
def test_networks_without_attention_refuse_a_kernel(name):
    with pytest.raises(ValueError, match=f"`attention` must be auto for {name}"):
        depth.network(name, max_depth=80.0, attention="cudnn")


def config_of(**model):
    config = base()
    config.model.name = "swin_v2_nano"
    config.model.update(model)
    return config


@pytest.mark.parametrize(
    ("asked", "saved", "expected"),
    [
        ({}, None, ("float32", "xla")),
        ({}, {"dtype": "bfloat16", "attention": "xla"}, ("bfloat16", "xla")),
        ({}, {"dtype": "float32", "attention": None}, ("float32", "xla")),  # older
        ({"dtype": "bfloat16"}, {"dtype": "float32"}, ("bfloat16", "xla")),
        ({}, {"dtype": "auto"}, ("float32", "xla")),
    ],
)
def test_a_run_that_goes_on_keeps_its_precision(asked, saved, expected):
    config = config_of(**asked)
    chosen = build.with_precision(config, saved and {"model": saved})
    assert (chosen.model.dtype, chosen.model.attention) == expected
    assert config.model.dtype == asked.get("dtype", "auto")  # the caller's is as it was


def test_a_run_of_another_device_is_one_line():
    saved = {"model": {"dtype": "bfloat16", "attention": "cudnn"}}
    with pytest.raises(InputError, match="attention=cudnn needs an NVIDIA GPU"):
        build.with_precision(config_of(), saved)
    with pytest.raises(InputError, match="must be one of float32, bfloat16, auto"):
        build.with_precision(config_of(dtype="float8"), None)


@pytest.mark.parametrize(
    "options",
    [{"dtype": "bfloat16", "attention": "cudnn"}, {"attention": "cudnn"}, {}],
)
def test_weights_of_a_gpu_are_computed_here_as_this_device_can(options):
    for name in ("swin_v2_nano", "monodepth2"):
        fitted = depth.fitted_to_device(name, {"max_depth": 80.0, **options})
        made = depth.network(name, **fitted)
        assert depth.precision_of(made) == ("float32", "xla")
