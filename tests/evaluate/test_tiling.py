"""Windows and mirrors equal MIM-Depth's test in NumPy; nothing is left uncovered."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.evaluate import tiling
from amlr_jax.evaluate.predictor import predictor
from amlr_jax.evaluate.tiling import Mode
from amlr_jax.runtime import mesh as parallel
from tests import devices
from tests.train.toy import Toy

SIZE = (16, 57)  # (57 - 16) // 5 = 8: windows end at 56


def image(batch=1, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (batch, *size, 3), np.uint8)


@pytest.fixture(scope="module")
def variables():
    return Toy().init(jax.random.key(3), jnp.zeros((1, 8, 8, 3)), train=False)


def one_by_one(variables):
    """Depth [H, W] of one image [H, W, 3] by the toy network alone."""

    @jax.jit
    def apply(x):
        return Toy().apply(variables, x, train=False)[0]

    return lambda x: np.asarray(apply(x[None].astype(np.float32) / 255), np.float64)


def reference(net, picture, *, count: int, flip: bool) -> np.ndarray:
    """The algorithm in float64, window by window; NaN where no window is."""
    height, width = picture.shape[:2]
    step = (width - height) // (count - 1)
    total, seen = np.zeros((height, width)), np.zeros((height, width))
    for k in range(count):
        columns = slice(k * step, k * step + height)
        square = picture[:, columns]
        depth = net(square)
        if flip:
            depth = (depth + net(square[:, ::-1])[:, ::-1]) / 2
        total[:, columns] += depth
        seen[:, columns] += 1
    with np.errstate(invalid="ignore"):
        return total / seen


@pytest.mark.parametrize("flip", [False, True])
def test_equals_the_reference(variables, flip):
    mode = Mode("shifted_flip" if flip else "shifted", windows=6)
    net = one_by_one(variables)
    predict = predictor(Toy(), parallel.make_mesh(), mode=mode)
    pictures = image(batch=2)
    for picture, depth in zip(pictures, predict(variables, pictures), strict=True):
        want = reference(net, picture, count=6, flip=flip)
        covered = np.isfinite(want)
        assert covered[:, :56].all() and not covered[:, 56:].any()
        np.testing.assert_allclose(depth[covered], want[covered], atol=1e-4)
        spare = net(picture[:, 41:])
        if flip:
            spare = (spare + net(picture[:, 41:][:, ::-1])[:, ::-1]) / 2
        np.testing.assert_allclose(depth[:, 56:], spare[:, 15:], atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 3, 14, 99])
def test_however_many_are_seen_at_once(variables, at_once):
    mode, mesh, picture = Mode("shifted_flip", 6), parallel.make_mesh(), image()
    parts = predictor(Toy(), mesh, mode=mode, at_once=at_once)(variables, picture)
    whole = predictor(Toy(), mesh, mode=mode)(variables, picture)
    np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_published_windows():
    """KITTI: 16 windows 57 apart, nine columns bare. NYU: two, nothing bare."""
    kitti = tiling.window_starts(352, 1216, count=16)
    assert kitti == tuple(range(0, 856, 57))
    assert tiling.spare_starts(kitti, 352, 1216) == ((864, 1207, 1216),)
    nyu = tiling.window_starts(480, 640, count=2)
    assert nyu == (0, 160)
    assert tiling.spare_starts(nyu, 480, 640) == ()


@pytest.mark.parametrize("name", tiling.MODES)
@pytest.mark.parametrize("width, count", [(57, 6), (100, 2), (17, 16), (16, 4), (9, 4)])
def test_constant_predictor_stays_constant(name, width, count):
    """Whatever the gaps between windows; and nothing is NaN."""

    def constant(views):
        return jnp.full(views.shape[:3], 7.25)

    mode = Mode(name, count)
    depth = tiling.predict(constant, image(size=(16, width)), mode)
    assert depth.shape == (1, 16, width)
    np.testing.assert_allclose(depth, 7.25, rtol=1e-6)


@pytest.mark.parametrize("name", ["flip", "shifted", "shifted_flip"])
def test_what_each_pixel_says_of_itself_comes_back(name):
    """A network that reads depth off the pixel is not moved by windows or mirrors."""
    pictures = image(batch=2)
    depth = tiling.predict(lambda v: 1.0 + v[..., 0], pictures, Mode(name, 6))
    np.testing.assert_allclose(depth, 1.0 + pictures[..., 0], rtol=1e-6)


def test_the_window_is_mirrored_and_not_the_image():
    """Depth that grows to the right of each window averages to its middle."""

    def ramp(views):
        return jnp.broadcast_to(jnp.arange(16.0), views.shape[:3])

    depth = tiling.predict(ramp, image(), Mode("shifted_flip", 6))
    np.testing.assert_allclose(depth, 7.5, rtol=1e-6)


def test_one_call_of_the_network():
    calls = []

    def forward(views):
        calls.append(views.shape)
        return jnp.ones(views.shape[:3])

    tiling.predict(forward, image(), Mode("shifted_flip", 6))
    assert calls == [(14, 16, 16, 3)]  # six windows, a spare one, and their mirrors


def test_not_wider_than_high_falls_back():
    assert Mode("shifted_flip").on(480, 480).name == "flip"
    assert Mode("shifted").on(480, 320).name == "none"
    assert Mode("shifted").on(480, 481).name == "shifted"


def test_ramps_equal_the_equation():
    rng = np.random.default_rng(1)
    d, other = rng.uniform(1, 80, (2, 1, 5, 41))
    x = np.linspace(0, 1, 41)[None]
    left = 1 - np.clip(20 * (x - 0.05), 0, 1)
    right = left[:, ::-1]
    inverse = right / d + left / other + (1 - left - right) * (1 / d + 1 / other) / 2
    got = tiling.merge_ramps(jnp.asarray(d), jnp.asarray(other))
    np.testing.assert_allclose(got, 1 / inverse, rtol=1e-5)
    np.testing.assert_allclose(got[..., 0], other[..., 0], rtol=1e-5)
    np.testing.assert_allclose(got[..., -1], d[..., -1], rtol=1e-5)
    nothing = tiling.merge_ramps(jnp.zeros((1, 2, 9)), jnp.ones((1, 2, 9)))
    assert np.isfinite(nothing).all()


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from amlr_jax.runtime import mesh as parallel
from amlr_jax.evaluate.predictor import predictor
from amlr_jax.evaluate.tiling import Mode
from tests.train.toy import Toy
network = Toy()
variables = network.init(jax.random.key(3), jnp.zeros((1, 8, 8, 3)), train=False)
image = np.random.default_rng(0).integers(0, 256, (1, 16, 57, 3), np.uint8)
found = []
for at_once in (1, 4):
    predict = predictor(
        network, parallel.make_mesh(), mode=Mode("shifted_flip", 6), at_once=at_once
    )
    found.append(predict(variables, image).astype(float).ravel().tolist())
print(found)
"""


def test_on_four_devices(variables):
    """Fourteen windows, one or four at once: filled up to sixteen, the same depth."""
    predict = predictor(Toy(), parallel.make_mesh(), mode=Mode("shifted_flip", 6))
    here = predict(variables, image()).ravel()
    printed = devices.run(PROGRAM, devices=4).splitlines()[-1]
    for spread in json.loads(printed):
        np.testing.assert_allclose(spread, here, atol=1e-4)


@pytest.mark.parametrize("name", ["flip", "shifted", "shifted_flip"])
def test_the_spread_is_that_of_the_views(name):
    height, width, windows = 6, 17, 4
    rng = np.random.default_rng(0)
    image = rng.uniform(0.2, 1, (2, height, width, 3)).astype(np.float32)

    def forward(views):  # depends on the place in the view
        return 5 * views[..., 0] + np.arange(views.shape[2]) / 9

    mode = tiling.Mode(name, windows)
    seen: list = [[] for _ in range(width)]
    starts = tiling.window_starts(height, width, count=windows)
    spare = tiling.spare_starts(starts, height, width)
    places = [(s, s, s + height) for s in starts] + [*spare]
    places = places if mode.shifted else [(0, 0, width)]
    side = height if mode.shifted else width

    for start, first, end in places:
        view = image[:, :, start : start + side]
        found = [forward(view)]
        if name != "shifted":
            found.append(forward(view[:, :, ::-1])[:, :, ::-1])
        for column in range(first, end):
            seen[column] += [one[:, :, column - start] for one in found]
    made = tiling.predict_with_spread(forward, jnp.asarray(image), mode)
    assert made.shape == (2, 2, height, width)
    for column, values in enumerate(seen):
        mean, std = np.mean(values, 0), np.std(np.log(values), 0)
        np.testing.assert_allclose(made[:, 0, :, column], mean, rtol=1e-5)
        np.testing.assert_allclose(made[:, 1, :, column], std, atol=2e-3)
