"""A function of images as ONNX, by jax2onnx, checked with onnxruntime."""

import contextlib
import functools
import importlib.metadata
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.runtime.errors import InputError

ENDING = ".onnx"
NEEDS = ("jax2onnx", "onnx", "onnxruntime")
INSTALL = (
    "pip install -e '.[train,onnx]', best in an environment of its own, because "
    "jax2onnx wants orbax-checkpoint below 0.11.37"
)
LOAD = (
    "import onnxruntime",
    "network = onnxruntime.InferenceSession({file!r})",
    "depth, = network.run(None, {{'image': image}})",
)

_jax_resize = jax.image.resize  # jax2onnx puts another in its place while it traces


def check_platforms(platforms: list[str] | None) -> tuple[str, ...]:
    """Where the file is checked; InputError for platforms, which ONNX does not have."""
    if platforms is not None:
        raise InputError("--platforms is for --format=stablehlo; leave it out")
    return ("cpu",)


def encoded(
    forward: Callable, shape: tuple[int | str, ...], platforms: tuple[str, ...]
) -> bytes:
    """`forward` of a float32 array of that shape, where "batch" is any number."""
    del platforms
    from jax2onnx import to_onnx

    def convertible(image: jax.Array) -> jax.Array:
        with _convertible_layers():
            return forward(image)

    # Fills the cache of `_resizing` while jax itself is still as it should be.
    one = jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32)
    jax.eval_shape(convertible, one)
    names = {"input_names": ["image"], "output_names": ["depth"]}
    try:
        model = to_onnx(convertible, [shape], model_name="amlr_jax", **names)
    except Exception as error:  # it has no class of its own
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        hint = "try --batch=1 or" if isinstance(shape[0], str) else "use"
        raise InputError(
            f"jax2onnx cannot convert this network ({line}); {hint} --format=stablehlo"
        ) from error
    # Notes on shapes inside, some of which jax2onnx 0.17 gets wrong.
    model.graph.ClearField("value_info")
    return model.SerializeToString()


def outcome(data: bytes, image: np.ndarray) -> np.ndarray:
    """What the file makes of an image, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(data, options, providers=providers)
    return session.run(["depth"], {"image": image})[0]


def facts(data: bytes) -> dict:
    """What the file says of itself, for its JSON."""
    import onnx

    model = onnx.load_model_from_string(data)
    return {
        "opset": model.opset_import[0].version,
        "jax2onnx": importlib.metadata.version("jax2onnx"),
    }


@contextlib.contextmanager
def _convertible_layers() -> Iterator[None]:
    """Two layers in forms that jax2onnx 0.17 takes.

    It refuses antialiasing, and max pooling with a padding in numbers.
    """
    before = jax.image.resize, nn.max_pool
    jax.image.resize, nn.max_pool = _resize, _max_pool
    try:
        yield
    finally:
        jax.image.resize, nn.max_pool = before


def _resize(
    x: jax.Array, shape: tuple[int, ...], method: str, *, antialias: bool
) -> jax.Array:
    """`jax.image.resize` of height and width, axes 1 and 2, as two matrix products."""
    for axis in (1, 2):
        if x.shape[axis] != shape[axis]:
            matrix = _resizing(x.shape[axis], shape[axis], method, antialias)
            x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ matrix.T, -1, axis)
    return x


@functools.cache
def _resizing(before: int, after: int, method: str, antialias: bool) -> np.ndarray:
    """The matrix (after, before) by which a line of pixels is resized."""
    with jax.ensure_compile_time_eval():
        lines = jnp.eye(before, dtype=jnp.float32)
        shape = (after, before)
        return np.asarray(_jax_resize(lines, shape, method, antialias=antialias))


def _max_pool(
    x_BHWC: jax.Array,
    window_shape: tuple[int, int],
    strides: tuple[int, int],
    *,
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> jax.Array:
    """`nn.max_pool` as the maximum of strided slices, one a place in the window."""
    outside = ((0, 0), *padding, (0, 0))
    x = jnp.pad(x_BHWC, outside, constant_values=-jnp.inf)
    spans = [
        (size - window) // stride * stride + 1
        for size, window, stride in zip(
            x.shape[1:3], window_shape, strides, strict=True
        )
    ]
    views = [
        x[:, i : i + spans[0] : strides[0], j : j + spans[1] : strides[1]]
        for i in range(window_shape[0])
        for j in range(window_shape[1])
    ]
    return functools.reduce(jnp.maximum, views)
