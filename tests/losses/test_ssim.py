"""SSIM: goldens against scikit-image and NumPy, properties, degenerate inputs."""

import doctest
import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import structural_similarity

from amlr_jax import losses
from amlr_jax.losses import windows

LOSSES = {
    "ssim": losses.ssim_loss,
    "m": losses.multiplicative_ssim_loss,
    "m_half": partial(losses.multiplicative_ssim_loss, alpha=1.5, beta=2.5, gamma=3.5),
    "a": losses.additive_ssim_loss,
    "a_valid": partial(losses.additive_ssim_loss, padding="valid"),
    "gaussian": partial(
        losses.additive_ssim_loss, window="gaussian", window_size=5, padding="valid"
    ),
}
SHAPE = (2, 8, 10, 3)
rng = np.random.default_rng(0)
X = rng.random(SHAPE).astype(np.float32)
Y = np.clip(X + rng.normal(0.0, 0.2, SHAPE), 0, 1).astype(np.float32)
WHERE = rng.random(SHAPE[:-1]) < 0.6
BIG_X = rng.random((32, 40)).astype(np.float32)
BIG_Y = np.clip(BIG_X + rng.normal(0.0, 0.2, BIG_X.shape), 0, 1).astype(np.float32)


# ---------------------------------------------------------------- a slow definition


def slow_components(x, y, where, taps):
    """L, C, S of one channel, window by window in float64, reflected at the border."""
    radius = len(taps) // 2
    pad = partial(np.pad, pad_width=radius, mode="reflect")
    x, y = (pad(np.where(where, a, 0.0).astype(np.float64)) for a in (x, y))
    weights = np.outer(taps, taps)
    valid = pad(where.astype(np.float64))
    out = np.full((3, *where.shape), np.nan)
    for i, j in np.ndindex(*where.shape):
        cut = (slice(i, i + len(taps)), slice(j, j + len(taps)))
        w = weights * valid[cut]
        if w.sum() == 0.0:
            continue
        w = w / w.sum()
        mx, my = np.sum(w * x[cut]), np.sum(w * y[cut])
        vx, vy = np.sum(w * (x[cut] - mx) ** 2), np.sum(w * (y[cut] - my) ** 2)
        cov = np.sum(w * (x[cut] - mx) * (y[cut] - my))
        sx, sy = np.sqrt(vx), np.sqrt(vy)
        out[0, i, j] = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        out[1, i, j] = (2 * sx * sy + 9e-4) / (vx + vy + 9e-4)
        out[2, i, j] = (cov + 4.5e-4) / (sx * sy + 4.5e-4)
    return out


def slow_maps(where, taps):
    """Components of X and Y, [3, ..., H, W, C]."""
    maps = np.empty((3, *SHAPE))
    for b in range(SHAPE[0]):
        for c in range(SHAPE[-1]):
            args = X[b, ..., c], Y[b, ..., c], where[b], taps
            maps[:, b, ..., c] = slow_components(*args)
    return maps


def gaussian(size, sigma=1.5):
    taps = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    return taps / taps.sum()


WINDOWS = {
    "box3": ({}, np.full(3, 1 / 3)),
    "box5": ({"window_size": 5}, np.full(5, 0.2)),
    "gaussian5": ({"window_size": 5, "window": "gaussian"}, gaussian(5)),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_components_and_losses_against_numpy(name, masked):
    options, taps = WINDOWS[name]
    where = WHERE if masked else np.ones_like(WHERE)
    expected = slow_maps(where, taps)
    options = options | {"where": WHERE if masked else None}
    actual = losses.ssim_components(X, Y, **options)
    for part, slow in zip(actual, expected, strict=True):
        np.testing.assert_allclose(part[where], slow[where], atol=1e-6)
    lum, con, struc = (part[where] for part in expected)
    loss = losses.ssim_loss(X, Y, **options)
    np.testing.assert_allclose(loss, np.mean(1 - lum * con * struc) / 2, atol=1e-6)
    loss = losses.additive_ssim_loss(X, Y, **options)
    slow = np.mean(0.5 * (1 - lum) + 0.5 * (1 - con) + 0.35 * (1 - struc))
    np.testing.assert_allclose(loss, slow, atol=1e-6)
    powers = {"alpha": 2.0, "beta": 1.5, "gamma": 3.0}
    loss = losses.multiplicative_ssim_loss(X, Y, **powers, **options)
    slow = np.mean(1 - lum**2 * con**1.5 * ((1 + struc) / 2) ** 3)
    np.testing.assert_allclose(loss, slow, atol=1e-6)


@pytest.mark.parametrize("size,window", [(3, "box"), (7, "box"), (11, "gaussian")])
def test_against_scikit_image_in_float64(size, window):
    options = {"gaussian_weights": window == "gaussian", "win_size": size}
    _, expected = structural_similarity(
        BIG_X.astype(np.float64),
        BIG_Y.astype(np.float64),
        data_range=1.0,
        use_sample_covariance=False,
        full=True,
        **options,
    )
    actual = losses.ssim(
        BIG_X[..., None], BIG_Y[..., None], window_size=size, window=window
    )
    inside = slice(size // 2, -(size // 2))
    difference = np.abs(actual[..., 0] - expected)[inside, inside]
    assert difference.max() < 1e-4
    valid = losses.ssim(
        BIG_X[..., None],
        BIG_Y[..., None],
        window_size=size,
        window=window,
        padding="valid",
    )
    np.testing.assert_allclose(valid[..., 0], expected[inside, inside], atol=1e-4)


def test_against_monodepth2_in_torch():
    """Monodepth2's formula, stated here from its equations: pooled one-pass moments."""
    torch = pytest.importorskip("torch")
    pool = torch.nn.AvgPool2d(3, 1)
    pad = torch.nn.ReflectionPad2d(1)
    x = torch.tensor(X.transpose(0, 3, 1, 2), dtype=torch.float64, requires_grad=True)
    y = torch.tensor(Y.transpose(0, 3, 1, 2), dtype=torch.float64)
    a, b = pad(x), pad(y)
    mean_a, mean_b = pool(a), pool(b)
    var_a, var_b = pool(a**2) - mean_a**2, pool(b**2) - mean_b**2
    covariance = pool(a * b) - mean_a * mean_b
    numerator = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    denominator = (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    loss = ((1 - numerator / denominator) / 2).clamp(0, 1).mean()
    loss.backward()
    value, gradient = jax.value_and_grad(losses.ssim_loss)(X, Y)
    np.testing.assert_allclose(value, loss.item(), atol=1e-6)
    expected = x.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"where": WHERE}], ids=["all", "masked"])
def test_product_of_components_is_ssim(options):
    luminance, contrast, structure = losses.ssim_components(X, Y, **options)
    product = luminance * contrast * structure
    index = losses.ssim(X, Y, **options)
    valid = options.get("where", np.ones_like(WHERE))
    np.testing.assert_allclose(index[valid], product[valid], atol=1e-6)


# ---------------------------------------------------------------- gradients


def plain_components(x, y, where, taps):
    """L, C, S by cutting out every window: slow, and JAX differentiates it."""
    radius, size = len(taps) // 2, x.shape[1:3]
    widths = [(0, 0), (radius, radius), (radius, radius), (0, 0)]

    def windows(image):
        image = jnp.pad(image, widths, mode="reflect")
        views = [
            image[:, i : i + size[0], j : j + size[1]]
            for i in range(len(taps))
            for j in range(len(taps))
        ]
        return jnp.stack(views)

    def root(v):
        return jnp.where(v < 1e-12, 0.0, jnp.sqrt(jnp.where(v < 1e-12, 1.0, v)))

    valid = where[..., None].astype(np.float32)
    weights = np.outer(taps, taps).reshape(-1, 1, 1, 1, 1) * windows(valid)
    total = weights.sum(0)
    weights = weights / jnp.where(total == 0, 1.0, total)
    x, y = windows(x * valid), windows(y * valid)
    mx, my = (weights * x).sum(0), (weights * y).sum(0)
    vx, vy = (weights * (x - mx) ** 2).sum(0), (weights * (y - my) ** 2).sum(0)
    cov = (weights * (x - mx) * (y - my)).sum(0)
    sx, sy = root(vx), root(vy)
    luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
    contrast = (2 * sx * sy + 9e-4) / (vx + vy + 9e-4)
    return luminance, contrast, (cov + 4.5e-4) / (sx * sy + 4.5e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_gradients_are_those_of_the_plain_definition(name, masked):
    options, taps = WINDOWS[name]
    where = WHERE if masked else np.ones_like(WHERE)
    target = np.random.default_rng(3).random(SHAPE).astype(np.float32)
    weights = np.random.default_rng(4).random((4, *SHAPE)).astype(np.float32)

    def weighed(parts):
        parts = [*parts[:3], parts[0] * parts[1] * parts[2]]
        kept = (w * where[..., None] * p for w, p in zip(weights, parts, strict=True))
        return sum(jnp.sum(part) for part in kept)

    def ours(x, y):
        index = losses.ssim(x, y, where=WHERE if masked else None, **options)
        parts = losses.ssim_components(x, y, where=WHERE if masked else None, **options)
        product = parts[0] * parts[1] * parts[2]
        extra = weights[3] * where[..., None] * (index - product)
        return weighed(parts) + jnp.sum(extra)

    def plain(x, y):
        return weighed(plain_components(x, y, where, taps))

    actual = jax.grad(ours, argnums=(0, 1))(X, target)
    expected = jax.grad(plain, argnums=(0, 1))(X, target)
    for one, other in zip(actual, expected, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradient_against_central_differences(loss):
    direction = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    step = 2e-3
    above, below = (loss(X + t * direction, Y) for t in (step, -step))
    slope = np.sum(jax.grad(loss)(X, Y) * direction)
    np.testing.assert_allclose(
        slope, (above - below) / (2 * step), rtol=2e-2, atol=2e-4
    )


def test_gradient_at_equal_images_is_zero():
    for loss in LOSSES.values():
        np.testing.assert_allclose(jax.grad(loss)(X, X), 0.0, atol=1e-7)


# ---------------------------------------------------------------- properties

IMAGES = arrays(np.float32, (5, 6, 2), elements=st.floats(0.0, 1.0, width=32))
MASKS = arrays(bool, (5, 6))
check = settings(max_examples=25, deadline=None)
components = jax.jit(losses.ssim_components)


@jax.jit
def all_losses(x, y, where):
    return jnp.stack([loss(x, y, where=where) for loss in LOSSES.values()])


@check
@given(x=IMAGES, y=IMAGES, where=MASKS)
def test_ranges_symmetry_and_identity(x, y, where):
    parts = components(x, y, where=where)
    for part, least in zip(parts, (0.0, 0.0, -1.0), strict=True):
        assert np.all(part >= least) and np.all(part <= 1.0)
    for other, part in zip(components(y, x, where=where), parts, strict=True):
        np.testing.assert_allclose(part, other, atol=1e-6)
    assert np.all(all_losses(x, y, where) >= 0.0)
    assert np.all(all_losses(x, x, where) <= 1e-6)


@check
@given(x=IMAGES, y=IMAGES, where=MASKS)
def test_pixels_under_the_mask_do_not_count(x, y, where):
    garbage = np.where(where[..., None], x, np.float32(123.0))
    expected = all_losses(x, y, where)
    np.testing.assert_array_equal(all_losses(garbage, y, where), expected)


def test_a_masked_rectangle_is_the_cropped_image():
    where = np.zeros((12, 14), bool)
    where[3:10, 4:12] = True
    x, y = (rng.random((12, 14, 3)).astype(np.float32) for _ in range(2))
    masked = losses.ssim_components(x, y, where=where)
    cropped = losses.ssim_components(x[3:10, 4:12], y[3:10, 4:12], padding="valid")
    for one, other in zip(masked, cropped, strict=True):
        np.testing.assert_allclose(one[4:9, 5:11], other, atol=1e-6)


def test_data_range_only_scales():
    small = losses.additive_ssim_loss(X, Y)
    large = losses.additive_ssim_loss(255 * X, 255 * Y, data_range=255.0)
    np.testing.assert_allclose(large, small, rtol=1e-5)


def test_a_small_contrast_on_a_bright_ground_is_not_lost():
    """One-pass variances of 1e-4 around 1 in float32 would be wrong by a third."""
    wave = 3e-4 * np.sin(np.arange(400.0)).reshape(20, 20, 1)
    _, contrast, structure = losses.ssim_components(1 - wave, 1 + wave, k2=1e-5)
    assert contrast.min() > 0.999
    assert structure.max() < -0.9


# ---------------------------------------------------------------- degenerate inputs

ONE = np.zeros_like(WHERE)
ONE[0, 2, 3] = True
M = WHERE[..., None]
FLAT = np.full(SHAPE, 0.3, np.float32)
DEGENERATE = {
    "empty_mask": (X, Y, np.zeros_like(WHERE)),
    "one_pixel": (X, Y, ONE),
    "flat": (FLAT, FLAT * 2, WHERE),
    "flat_against_textured": (FLAT, Y, None),
    "textured_against_flat": (X, FLAT, WHERE),
    "identical": (X, X, WHERE),
    "black": (X * 0, Y * 0, None),
    "zero_prediction": (X * 0, Y, WHERE),
    "nearly_flat": (FLAT + 1e-7 * X, Y, None),
    "tiny": (X * 1e-30, Y * 1e-30, None),
    "huge": (np.full(SHAPE, 1e30, np.float32), Y, WHERE),
    "huge_texture": (X * 1e30, Y, None),
    "infinite": (np.where(X > 0.5, np.inf, X), Y, None),
    "nan_under_mask": (np.where(M, X, np.nan), Y, WHERE),
    "nan_target_under_mask": (X, np.where(M, Y, np.nan), WHERE),
    "no_mask": (X, Y, None),
}


@jax.jit
def losses_and_means(x, y, where):
    maps = losses.ssim_components(x, y, where=where)
    return jnp.append(all_losses(x, y, where), jnp.stack([m.mean() for m in maps]))


@jax.jit
def slopes(x, y, where):
    """The gradients of the sum: NaN where one of them is."""
    return jax.grad(lambda *pair: losses_and_means(*pair, where).sum(), (0, 1))(x, y)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", DEGENERATE)
def test_value_and_gradient_are_finite(case, dtype):
    x, y, where = DEGENERATE[case]
    x, y = jnp.asarray(x).astype(dtype), jnp.asarray(y).astype(dtype)
    if where is None and dtype != jnp.float32:  # compiled once for each dtype
        where = np.ones_like(WHERE)
    values = losses_and_means(x, y, where)
    assert values.dtype == jnp.float32
    assert np.isfinite(values).all(), values
    for gradient in slopes(x, y, where):
        assert gradient.dtype == dtype
        assert np.isfinite(np.asarray(gradient, np.float32)).all()
    if case == "empty_mask":
        np.testing.assert_array_equal(values[: len(LOSSES)], 0.0)
    if case == "identical":
        np.testing.assert_allclose(values[: len(LOSSES)], 0.0, atol=1e-6)


def test_nan_at_a_valid_pixel_is_not_hidden():
    spoiled = np.where(ONE[..., None], np.nan, X)
    for loss in LOSSES.values():
        assert np.isnan(loss(spoiled, Y))


# ---------------------------------------------------------------- jit, vmap, errors


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_jit_and_vmap_change_nothing(loss):
    eager = loss(X, Y, where=WHERE)
    np.testing.assert_allclose(jax.jit(loss)(X, Y, where=WHERE), eager, rtol=1e-5)
    each = jax.vmap(lambda x, y, w: loss(x, y, where=w))(X, Y, WHERE)
    alone = [loss(x, y, where=w) for x, y, w in zip(X, Y, WHERE, strict=True)]
    np.testing.assert_allclose(each, alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (("x", "y", "where"), ("x",)),
        (("x", "y", "where"), ("y", "where")),
        (("x", "y", "where"), ("x", "y")),
        (("x", "y", "where"), ("where",)),
        (("x", "y"), ("y",)),  # as in self-supervised training
    ],
)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients_where_vmap_shares_an_argument(loss, names, shared):
    """As one by one. Each example's part of a shared image counts once."""
    given = {"x": X, "y": Y, "where": WHERE}
    given = {name: given[name] for name in names}
    axes = {name: None if name in shared else 0 for name in given}
    given |= {name: given[name][0] for name in shared}

    def together(images):
        return jax.vmap(lambda a: loss(**a), (axes,))(given | images).sum()

    def one_by_one(images):
        every = given | images
        return sum(
            loss(**{n: a if n in shared else a[k] for n, a in every.items()})
            for k in range(len(X))
        )

    images = {"x": given["x"], "y": given["y"]}
    found, wanted = jax.grad(together)(images), jax.grad(one_by_one)(images)
    for name in images:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)


def test_leading_axes_are_free():
    stacked = losses.ssim_components(np.stack([X, Y]), np.stack([Y, X]))
    for part, alone in zip(stacked, losses.ssim_components(X, Y), strict=True):
        assert part.shape == (2, *SHAPE)
        np.testing.assert_allclose(part[0], alone, atol=1e-7)
    assert losses.ssim_error(X[0], Y[0]).shape == SHAPE[1:3]


def test_exponents_may_be_traced():
    jitted = jax.jit(losses.multiplicative_ssim_loss)(X, Y, gamma=2.5)
    eager = losses.multiplicative_ssim_loss(X, Y, gamma=2.5)
    np.testing.assert_allclose(jitted, eager, rtol=1e-5)


ERRORS = {
    "shape": ({"y": Y[:1]}, r"\(1, 8, 10, 3\).*\(2, 8, 10, 3\)"),
    "where": ({"where": WHERE[..., None]}, r"\(2, 8, 10, 1\)"),
    "even": ({"window_size": 4}, "odd.*4"),
    "large": ({"window_size": 21}, "at least 11"),
    "large_valid": ({"window_size": 9, "padding": "valid"}, "at least 9"),
    "window": ({"window": "disc"}, "gaussian.*disc"),
    "padding": ({"padding": "zero"}, "reflect.*zero"),
    "sigma": ({"window": "gaussian", "sigma": 0.0}, "sigma.*0.0"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_rule(case):
    change, message = ERRORS[case]
    arguments = {"x": X, "y": Y} | change
    for loss in (losses.ssim_loss, losses.additive_ssim_loss, losses.ssim_components):
        with pytest.raises(ValueError, match=message):
            loss(**arguments)


def test_other_errors():
    with pytest.raises(ValueError, match="at least 1.*0.5"):
        losses.multiplicative_ssim_loss(X, Y, beta=0.5)
    with pytest.raises(ValueError, match=r"H, W, C"):
        losses.ssim(X[0, 0], Y[0, 0])
    with pytest.raises(TypeError, match="boolean"):
        losses.ssim_loss(X, Y, where=WHERE.astype(np.int32))
    with pytest.raises(TypeError, match="window_sise"):
        losses.ssim_loss(X, Y, window_sise=3)


def test_doctests():
    assert doctest.testmod(importlib.import_module("amlr_jax.losses.ssim")).failed == 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": "valid"}, {"window_size": 5, "window": "gaussian"}],
    ids=str,
)
def test_the_form_for_gpus_gives_the_same_numbers(monkeypatch, options, masked):
    """Called directly, because XLA chooses it where it compiles for a GPU."""
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.random((2, 2, 12, 17, 3)), jnp.float32)
    y = y.at[:, :6].set(x[:, :6]).at[:, :, :5].set(0.25)  # equal, and constant
    where = jnp.asarray(rng.random((2, 12, 17)) > 0.4) if masked else None

    def values(x, y):
        maps = losses.ssim_components(x, y, where=where, **options)
        return losses.additive_ssim_loss(x, y, where=where, **options), maps

    both = partial(jax.value_and_grad(values, (0, 1), has_aux=True), x, y)
    want = both()
    monkeypatch.setattr(windows, "_by_platform", lambda on_gpu, _: on_gpu)
    for got, wanted in zip(*map(jax.tree.leaves, (both(), want)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("size", "gathers"), [(3, True), (5, True), (7, False)])
def test_the_form_is_chosen_by_platform(size, gathers):
    """Gathers and barriers of the form for GPUs are in a program for CUDA alone."""
    loss = partial(losses.ssim_loss, window_size=size)
    x = jnp.zeros((9, 9, 3))
    traced = jax.jit(jax.grad(loss)).trace(x, x)
    found = {}
    for platform in ("cpu", "cuda"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        found[platform] = "stablehlo.gather" in text, "optimization_barrier" in text
    assert found == {"cpu": (False, False), "cuda": (gathers, True)}
