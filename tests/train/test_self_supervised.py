"""The self-supervised objective beside the equations written in PyTorch, and limits.

Stubs stand for the networks: their disparities and motions are the parameters, so that
gradients to both can be compared directly.
"""

import functools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from amlr_jax import rebalance
from amlr_jax.models.decoders.disparity import DisparityDecoder
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.train.objectives.self_supervised import loss_names, self_supervised
from amlr_jax.train.step import TrainState, initial_state, train_step

torch = pytest.importorskip("torch")
functional = torch.nn.functional

BATCH, HEIGHT, WIDTH = 2, 32, 64
SCALES = (0, 1, 2, 3)
WEIGHTS = {"mae": 0.4, "luminance": 0.5, "contrast": 0.5, "structure": 0.7}
WEIGHTS |= {"smoothness": 1e-3, "photometric": 1.0}


@pytest.fixture(autouse=True, scope="module")
def no_noise():
    """What breaks ties between equal errors is random; compilations outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amlr_jax.losses.photometric.NOISE", 0.0)
        yield


class Encoder(nn.Module):
    """No features; its batch statistics are what it saw, and how often."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        remember(self, image)
        return image


class Decoder(DisparityDecoder):
    """Disparities that are parameters."""

    scales: tuple[int, ...] = SCALES

    @nn.compact
    def disparities(self, features):
        maps = []
        for scale in self.scales:
            shape = (len(features), HEIGHT >> scale, WIDTH >> scale)
            start = nn.initializers.normal(1.0)
            maps.append(nn.sigmoid(self.param(f"d{scale}", start, shape) - 3.0))
        return maps


class Pose(nn.Module):
    """A motion that is a parameter, and says which frame came first."""

    @nn.compact
    def __call__(self, first, second, *, train: bool):
        remember(self, jnp.stack([first, second]))
        start = nn.initializers.normal(0.02)
        turn, shift = (self.param(n, start, (len(first), 3)) for n in ("r", "t"))
        later = (second - first).mean((1, 2, 3))[:, None]
        return turn + 0.01 * later, shift + 0.1 * later


def remember(module, images):
    passes = module.variable("batch_stats", "passes", lambda: jnp.zeros(()))
    seen = module.variable("batch_stats", "brightness", lambda: jnp.zeros(()))
    if not module.is_initializing():
        passes.value += 1
        seen.value += images.mean()


def network(scales=SCALES) -> DepthNetwork:
    return DepthNetwork(encoder=Encoder(), decoder=Decoder(scales=scales))


def made_batch(seed=0, *, stereo=False) -> dict[str, np.ndarray]:
    """Smooth pictures with some noise, sources shifted by a pixel or two."""
    rng = np.random.default_rng(seed)
    wide = rng.uniform(0, 255, (BATCH, HEIGHT // 4, WIDTH // 4 + 2, 3))
    wide = wide.repeat(4, 1).repeat(4, 2) * 0.7
    frames = [wide[:, :, 4 + s : 4 + s + WIDTH] for s in (0, -2, 1, 3)]
    frames = [f + rng.uniform(0, 70, f.shape) for f in frames]
    image, before, after, partner = (f.astype(np.uint8) for f in frames)
    sources = np.stack([before, after], 1)
    camera = [0.58 * WIDTH, 1.92 * HEIGHT, WIDTH / 2, HEIGHT / 2]
    batch = {"image": image, "sources": sources}
    batch |= {"network_image": image, "network_sources": sources}
    batch["intrinsics"] = np.tile(np.float32(camera), (BATCH, 1))
    if stereo:
        batch["partner"] = partner
        batch["partner_from_target"] = np.float32([[-0.5, 0, 0], [0.5, 0, 0]])
    return batch


@functools.cache
def variables(pose=True) -> dict:
    keys = jax.random.split(jax.random.key(3))
    image = jnp.zeros((BATCH, HEIGHT, WIDTH, 3))
    made = network().init({"params": keys[0]}, image, train=False)
    if not pose:
        return made
    moved = Pose().init({"params": keys[1]}, image, image, train=False)
    return {name: {**made[name], "pose": moved[name]} for name in made}


def objective_of(kind: str, pose: bool = True, **options):
    """With gamma 2 for SSIM_m, where 1 would hide the exponents."""
    error = {"gamma": 2.0} if kind == "ssim_m" else None
    moved = Pose() if pose else None
    return self_supervised(network(), moved, kind=kind, error=error, **options)


def weights_of(kind: str) -> dict:
    return {name: jnp.float32(WEIGHTS[name]) for name in loss_names(kind)}


@functools.cache
def compiled(kind: str, pose: bool, options: tuple):
    """Compiling is what these tests cost: once for each form of the objective."""
    objective = objective_of(kind, pose, **dict(options))

    def total(params, batch, weights):
        statistics, key = variables(pose)["batch_stats"], jax.random.key(0)
        values, new = objective(params, statistics, batch, key, weights)
        return rebalance.weighted_total(values, weights), (values, new)

    fast = {"xla_backend_optimization_level": 0}
    return jax.jit(jax.value_and_grad(total, has_aux=True), compiler_options=fast)


def call(batch, *, kind="ssim_a", pose=True, params=None, weights=None, **options):
    """Losses, new batch statistics and the gradient of the weighted total."""
    params = variables(pose)["params"] if params is None else params
    function = compiled(kind, pose, tuple(sorted(options.items())))
    (_, aux), gradient = function(params, batch, weights or weights_of(kind))
    return *aux, gradient


# ------------------------------------------------------- the equations, in PyTorch


def rodrigues(v):
    """I + sin(a) K + (1 - cos(a)) K^2 of the unit axis; [B, 3] -> [B, 3, 3]."""
    angle = v.norm(dim=1)[:, None, None]
    x, y, z = (v / v.norm(dim=1, keepdim=True)).unbind(1)
    none = torch.zeros_like(x)
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none], 1).view(-1, 3, 3)
    turn = torch.eye(3) + torch.sin(angle) * cross
    return turn + (1 - torch.cos(angle)) * cross @ cross


def motion(params, first, second):
    later = (second - first).mean((1, 2, 3))[:, None]
    rotation = rodrigues(params["r"] + 0.01 * later)
    pose = torch.eye(4).repeat(BATCH, 1, 1)
    pose[:, :3, :3] = rotation
    pose[:, :3, 3] = params["t"] + 0.1 * later
    return pose


def synthesis(source, depth, pose, camera):
    """grid_sample of `source` [B, 3, H, W] where the target's points fall."""
    v, u = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    fx, fy, cx, cy = (c[:, None, None] for c in camera.unbind(1))
    points = torch.stack([(u - cx) / fx * depth, (v - cy) / fy * depth, depth], -1)
    moved = torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], points)
    x, y, z = (moved + pose[:, None, None, :3, 3]).unbind(-1)
    u, v = fx * x / z + cx, fy * y / z + cy
    grid = torch.stack([2 * u / (WIDTH - 1) - 1, 2 * v / (HEIGHT - 1) - 1], -1)
    return functional.grid_sample(
        source, grid, padding_mode="border", align_corners=True
    )


def similarity(x, y):
    """Luminance, contrast and structure of 3 x 3 windows, each [B, 3, H, W]."""
    x, y = (functional.pad(i, (1, 1, 1, 1), mode="reflect") for i in (x, y))
    mean = partial(functional.avg_pool2d, kernel_size=3, stride=1)
    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx**2, mean(y * y) - my**2
    covariance = mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    sx, sy = vx.clamp(1e-12).sqrt(), vy.clamp(1e-12).sqrt()
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    contrast = (2 * sx * sy + c2) / (vx + vy + c2)
    return luminance, contrast, (covariance + c2 / 2) / (sx * sy + c2 / 2)


def error(x, y, kind):
    """Maps [B, H, W] by name."""
    mae = (x - y).abs().mean(1)
    lum, con, struct = similarity(x, y)
    if kind == "ssim_a":
        parts = {"luminance": 1 - lum, "contrast": 1 - con}
        parts["structure"] = 1 - (1 + struct) / 2
        return {"mae": mae} | {name: part.mean(1) for name, part in parts.items()}
    index = lum * con * struct
    part = ((1 - index) / 2).clamp(0, 1)
    if kind == "ssim_m":
        part = 1 - lum * con * (0.5 * (1 + struct)) ** 2
    return {"photometric": 0.85 * part.mean(1) + 0.15 * mae}


def edge_aware(disparity, image):
    d = disparity / (disparity.mean((1, 2), keepdim=True) + 1e-7)
    total = 0
    for axis in (1, 2):
        step = d.diff(dim=axis).abs()
        edge = image.diff(dim=axis + 1).abs().mean(1)
        total = total + (step * (-edge).exp()).mean()
    return total


def lanczos(image, size):
    """Pillow's, channel by channel in float: [B, 3, H, W] -> [B, 3, *size]."""
    out = [
        [
            np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.LANCZOS))
            for c in picture
        ]
        for picture in image.numpy()
    ]
    return torch.tensor(np.array(out)).to(image)


def in_torch(params, batch, *, kind, automask=True, stereo=False, pose=True):
    """The losses by name, from Eq. 4-11 and monodepth2's paper, scale by scale."""

    def image(name):
        codes = torch.tensor(batch[name]).to(torch.get_default_dtype())
        return codes.movedim(-1, -3) / 255

    target, frames = image("image"), image("sources")
    sources, poses = [], []
    if pose:
        before, after = frames.unbind(1)
        moved = partial(motion, params["pose"])
        sources += [before, after]
        poses += [torch.linalg.inv(moved(before, target)), moved(target, after)]
    if stereo:
        beside = torch.eye(4).repeat(BATCH, 1, 1)
        beside[:, :3, 3] = torch.tensor(batch["partner_from_target"])
        sources.append(image("partner"))
        poses.append(beside)
    total = dict.fromkeys(loss_names(kind), 0.0)
    for scale in SCALES:
        small = torch.sigmoid(params["decoder"][f"d{scale}"] - 3)
        full = functional.interpolate(small[:, None], (HEIGHT, WIDTH), mode="bilinear")
        depth = 1 / (0.01 + (10 - 0.01) * full[:, 0])
        camera = torch.tensor(batch["intrinsics"]).to(target)
        warped = [
            synthesis(s, depth, p, camera) for s, p in zip(sources, poses, strict=True)
        ]
        groups = [[error(w, target, kind) for w in warped]]
        if automask:
            groups.insert(0, [error(s, target, kind) for s in sources])
        maps = {n: [[m[n] for m in g] for g in groups] for n in groups[0][0]}
        rows = {n: [torch.stack(g) for g in m] for n, m in maps.items()}
        rows = {n: torch.cat(m) for n, m in rows.items()}
        chosen = sum(WEIGHTS[n] * rows[n].detach() for n in rows).argmin(0)[None]
        for name, row in rows.items():
            total[name] += row.gather(0, chosen).mean() / len(SCALES)
        picture = lanczos(target, small.shape[1:]) if scale else target
        smooth = edge_aware(small, picture) / 2**scale
        total["smoothness"] += smooth / len(SCALES)
    return total


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "monodepth2"},
        {"kind": "monodepth2", "automask": False},
        {"kind": "monodepth2", "stereo": True},
        {"kind": "ssim_m"},
        {"kind": "ssim_a"},
        {"kind": "ssim_a", "automask": False, "stereo": True, "pose": False},
    ],
    ids=str,
)
def test_losses_and_gradients_equal_those_of_the_equations(options):
    kind = options["kind"]
    batch = made_batch(stereo=options.get("stereo", False))
    got, _, gradient = call(batch, **options)
    start = variables(options.get("pose", True))["params"]
    leaves = jax.tree.map(
        lambda p: torch.tensor(np.array(p), requires_grad=True), start
    )
    want = in_torch(leaves, batch, **options)
    assert got.keys() == want.keys() == set(loss_names(kind))
    for name, value in want.items():
        assert float(got[name]) == pytest.approx(value.item(), rel=1e-5), name
    sum(WEIGHTS[name] * value for name, value in want.items()).backward()
    theirs = jax.tree.map(lambda p: p.grad.numpy(), leaves)
    jax.tree.map(assert_close, gradient, theirs)


def assert_close(a, b):
    """A pixel between two cells or two sources may go either way, so but for a few."""
    off, size = np.abs(a - b), np.abs(b).max()
    assert size > 1e-5
    assert np.linalg.norm(off) < 5e-3 * np.linalg.norm(b)
    assert (off > 1e-3 * size).mean() < 0.05


def test_the_sources_are_chosen_by_the_weights_that_come_in():
    """Where one loss alone has weight, that loss is the least it can be."""
    names = loss_names("ssim_a")
    only = {}
    for name in names[:-1]:
        weights = {other: jnp.float32(other == name) for other in names}
        only[name], _, _ = call(made_batch(), weights=weights, automask=False)
    for name in names[:-1]:
        others = [only[other][name] for other in names[:-1] if other != name]
        assert float(only[name][name]) < min(map(float, others)) - 1e-5


def test_each_frame_pair_has_a_pass_of_its_own():
    _, statistics, _ = call(made_batch())
    assert float(statistics["encoder"]["passes"]) == 1
    assert float(statistics["pose"]["passes"]) == 2


def test_networks_see_the_jittered_images_and_the_loss_the_clean_ones():
    batch = made_batch()
    clean, bright, _ = call(batch)
    names = [name for name in batch if "network" in name]
    seen, dark, _ = call(batch | {name: batch[name] // 2 for name in names})
    for network_name in ("encoder", "pose"):
        before, after = (s[network_name]["brightness"] for s in (bright, dark))
        assert float(after) == pytest.approx(float(before) / 2, rel=0.02)
    assert float(clean["mae"]) == pytest.approx(float(seen["mae"]), rel=0.2)
    assert float(clean["smoothness"]) == float(seen["smoothness"])


def test_standing_frames_and_no_motion_have_no_error():
    batch = made_batch()
    BROKEN["static"](batch)
    params = variables()["params"]
    still = {**params, "pose": jax.tree.map(jnp.zeros_like, params["pose"])}
    values, _, _ = call(batch, params=still)
    for name in loss_names("ssim_a")[:-1]:
        assert float(values[name]) == pytest.approx(0, abs=1e-5)


BROKEN = {
    "static": lambda b: b["sources"].__setitem__(slice(None), b["image"][:, None]),
    "black": lambda b: [b[n].fill(0) for n in ("image", "sources")],
    "white": lambda b: [b[n].fill(255) for n in ("image", "sources")],
    "no camera to speak of": lambda b: b["intrinsics"].fill(1e-3),
}


@pytest.mark.parametrize("kind", ["monodepth2", "ssim_m", "ssim_a"])
@pytest.mark.parametrize("name", BROKEN)
def test_no_batch_gives_a_nan(name, kind):
    batch = made_batch()
    BROKEN[name](batch)
    assert_finite(call(batch, kind=kind))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: jnp.zeros_like(p),  # pose zero, flat disparities
        lambda p: jnp.full_like(p, 50.0),  # nearest; far behind the camera
        lambda p: jnp.full_like(p, -50.0),  # farthest; the other way
        lambda p: p * 1e4,
    ],
    ids=["zero", "near", "far", "wild"],
)
@pytest.mark.parametrize("automask", [True, False])
def test_no_parameter_gives_a_nan(change, automask):
    params = jax.tree.map(change, variables()["params"])
    more = {} if automask else {"automask": False}
    assert_finite(call(made_batch(), params=params, **more))


def assert_finite(tree):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def pieces(kind: str, rule=None) -> dict:
    schedule = optax.constant_schedule(1e-3)
    return {
        "objective": objective_of(kind),
        "rebalancer": rule or rebalance.fixed(weights_of(kind)),
        "optimizer": optax.adam(schedule),
        "schedule": schedule,
    }


def initial(made: dict, kind: str) -> TrainState:
    return initial_state(
        variables(),
        optimizer=made["optimizer"],
        rebalancer=made["rebalancer"],
        loss_weights=rebalance.equal_weights(loss_names(kind)),
        key=jax.random.key(1),
    )


@pytest.mark.slow
def test_jit_equals_no_jit():
    batch, start = jax.tree.map(jnp.asarray, made_batch()), variables()
    finest = network(scales=(0,))
    objective = self_supervised(finest, Pose(), kind="ssim_a", automask=False)
    key, weights = jax.random.key(0), weights_of("ssim_a")
    given = start["params"], start["batch_stats"], batch, key, weights
    (slow, _), (fast, _) = objective(*given), jax.jit(objective)(*given)
    for name, value in slow.items():
        assert float(fast[name]) == pytest.approx(float(value), rel=1e-4)


RULES = {
    "fixed": None,
    "log_amlr": rebalance.log_amlr(1e-2, shares={n: 0.2 for n in loss_names("ssim_a")}),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_rebalancers_weigh_the_parts_and_training_brings_them_down(rule):
    made = pieces("ssim_a", RULES[rule])
    after = initial(made, "ssim_a")
    fast = {"xla_backend_optimization_level": 0}
    step = jax.jit(partial(train_step, **made), compiler_options=fast)
    batch, rows = jax.tree.map(jnp.asarray, made_batch()), []
    for _ in range(30):
        after, metrics = step(after, batch)
        rows.append(jax.device_get(metrics))
    assert step._cache_size() == 1
    first, last = rows[3], rows[-1]
    assert last["losses"]["structure"] < first["losses"]["structure"]
    if rule == "fixed":
        assert last["weights"]["luminance"] == 0.5
    else:
        weighted = [last["losses"][n] * w for n, w in last["weights"].items()]
        np.testing.assert_allclose(weighted, weighted[0], rtol=0.5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "ssim"}, "kind"),
        ({"pose": None}, "neighbouring frames or stereo"),
        ({"offsets": (0, 1)}, "offsets"),
        ({"network": None}, "model.name monodepth2 or five_level"),
    ],
)
def test_wrong_options_are_named(change, message):
    given = {"network": network(), "pose": Pose(), "kind": "ssim_a"} | change
    with pytest.raises(ValueError, match=message):
        self_supervised(given.pop("network"), given.pop("pose"), **given)
