"""Evaluation equals the plain NumPy of the reference protocols, image by image."""

import numpy as np
import pytest

from amlr_jax import metrics
from amlr_jax.evaluate import protocols, tables
from amlr_jax.evaluate.measure import as_measured, evaluate, measure
from amlr_jax.evaluate.predictor import pasted
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.runtime.errors import InputError
from tests.test_metrics import numpy_metrics as metrics_of_pixels

PROTOCOL = Protocol("kitti", "folder", "garg", 1e-3, 80.0, True, 17.5)
GARG = np.s_[143:349, 43:1172]  # of 352x1216
GARG_OF_FRAME = np.s_[153:371, 44:1197]  # of 375x1242


def pixels(prediction, target, *, crop=GARG):
    """Prediction and target of the pixels of one image that count."""
    mask = np.zeros(target.shape, bool)
    mask[crop] = True
    mask &= (target > 1e-3) & (target < 80)
    return prediction[mask], target[mask]


def numpy_metrics(prediction, target) -> dict[str, float]:
    """Of the pixels of one image that count, float64."""
    return metrics_of_pixels(*pixels(prediction, target))


def frames(count: int, size=(352, 1216)):
    rng = np.random.default_rng(0)
    for number in range(count):
        depth = rng.uniform(1, 100, size).astype(np.float32)
        depth[rng.random(depth.shape) > rng.uniform(0.01, 0.2)] = 0
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        yield {"image": image, "depth": depth, "key": f"drive/{number}"}


def predict(image):
    """Any function of the image."""
    return 5 + image.mean(-1).astype(np.float32) / 4


def batched(count: int, size: int, frame=(352, 1216)):
    every = list(frames(count, frame))
    for start in range(0, count, size):
        part = every[start : start + size]
        yield {name: np.stack([f[name] for f in part]) for name in part[0]}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_mean_over_images_whatever_the_batch(size):
    result = evaluate(predict, batched(3, size), protocol=PROTOCOL)
    want = [numpy_metrics(predict(f["image"]), f["depth"]) for f in frames(3)]
    constant = [
        numpy_metrics(np.full((352, 1216), 17.5), f["depth"]) for f in frames(3)
    ]
    assert (result.frames, result.skipped, result.ratio) == (3, 0, None)
    for name in metrics.METRIC_NAMES:
        mean = np.mean([w[name] for w in want])
        assert result.metrics[name] == pytest.approx(mean, rel=1e-5)
        mean = np.mean([c[name] for c in constant])
        assert result.constant[name] == pytest.approx(mean, rel=1e-5)
        each = [row[name] for row in result.images]
        np.testing.assert_allclose(each, [w[name] for w in want], rtol=1e-5)
    assert [row["index"] for row in result.images] == [0, 1, 2]
    assert [row["key"] for row in result.images] == ["drive/0", "drive/1", "drive/2"]
    counts = [row["pixels"] for row in result.images]
    assert counts == [len(pixels(f["depth"], f["depth"])[0]) for f in frames(3)]


def test_frame_without_a_pixel_that_counts_is_counted_apart():
    empty = {"image": np.zeros((1, 352, 1216, 3), np.uint8)}
    empty |= {"depth": np.zeros((1, 352, 1216), np.float32), "key": ["none"]}
    with_it = evaluate(predict, [*batched(2, 1), empty], protocol=PROTOCOL)
    without = evaluate(predict, batched(2, 1), protocol=PROTOCOL)
    assert (with_it.frames, with_it.skipped) == (2, 1)
    assert with_it.metrics == pytest.approx(without.metrics)
    assert np.isnan(with_it.images[2]["abs_rel"])
    with pytest.raises(InputError, match="no pixel to evaluate in 1 test frame "):
        evaluate(predict, [empty], protocol=PROTOCOL)


def test_perfect_prediction():
    truth = iter(f["depth"][None] for f in frames(2))
    result = evaluate(
        lambda image: np.maximum(next(truth), 1e-2), batched(2, 1), protocol=PROTOCOL
    )
    assert result.metrics["abs_rel"] == pytest.approx(0, abs=1e-7)
    assert result.metrics["d1"] == 1.0


def median_scaled(prediction, target):
    """monodepth2's order, float64: crop, mask, scale by the medians, clamp."""
    p, g = (
        x.astype(np.float64) for x in pixels(prediction, target, crop=GARG_OF_FRAME)
    )
    ratio = np.median(g) / np.median(p)
    return metrics_of_pixels(np.clip(p * ratio, 1e-3, 80), g), ratio


def test_median_scaling_in_monodepth2s_order():
    size = (375, 1242)
    protocol = PROTOCOL._replace(kb_crop=False, median_scaling=True, clamp=True)

    def relative(image):  # scaled, some of it is beyond 80 m
        return predict(image) ** 3 / 1e4

    result = evaluate(relative, batched(3, 2, size), protocol=protocol)
    want = [median_scaled(relative(f["image"]), f["depth"]) for f in frames(3, size)]
    for name in metrics.METRIC_NAMES:
        mean = np.mean([values[name] for values, _ in want])
        assert result.metrics[name] == pytest.approx(mean, rel=1e-5)
    ratios = np.array([ratio for _, ratio in want])
    np.testing.assert_allclose([r["ratio"] for r in result.images], ratios, rtol=1e-5)
    median = np.median(ratios)
    assert result.ratio["median"] == pytest.approx(median, rel=1e-5)
    assert result.ratio["std"] == pytest.approx(np.std(ratios / median), rel=1e-4)


def numpy_bts(prediction, target, crop, low, high):
    """BTS's offline evaluation of one image, in its order and in plain NumPy."""
    height, width = target.shape
    top, left = height - 352, (width - 1216) // 2
    p = np.zeros(target.shape, np.float64)
    p[top : top + 352, left : left + 1216] = prediction
    p[p < low] = low
    p[p > high] = high
    p[np.isinf(p)] = high
    p[np.isnan(p)] = low
    inside = np.zeros(target.shape, bool)
    rows, columns = {
        "garg": ((0.40810811, 0.99189189), (0.03594771, 0.96405229)),
        "eigen": ((0.3324324, 0.91351351), (0.0359477, 0.96405229)),
    }[crop]
    (a, b), (c, d) = rows, columns
    inside[int(a * height) : int(b * height), int(c * width) : int(d * width)] = True
    where = (target > low) & (target < high) & inside
    return metrics_of_pixels(p[where], target[where])


@pytest.mark.parametrize("size", [(375, 1242), (370, 1224), (376, 1241)])
@pytest.mark.parametrize("crop", ["garg", "eigen"])
def test_pasted_back_equals_the_offline_evaluation_of_bts(size, crop):
    """Of predictions below 1 m, beyond 80 m, NaN and infinite, too."""
    protocol = PROTOCOL._replace(paste_back=True, clamp=True, crop=crop, min_depth=1.0)
    assert not protocol.crops_frames

    def anything(image):
        depth = 2 * predict(image) - 60
        depth[:, 200, 300], depth[:, 201, 301] = np.nan, np.inf
        return depth

    result = evaluate(pasted(anything), batched(2, 2, size), protocol=protocol)
    top, left = size[0] - 352, (size[1] - 1216) // 2
    for row, frame in zip(result.images, frames(2, size), strict=True):
        inner = anything(frame["image"][None, top:, left : left + 1216])[0]
        assert np.nanmax(inner) > 80 and np.nanmin(inner) < 1
        want = numpy_bts(inner, frame["depth"], crop, 1.0, 80.0)
        for name in metrics.METRIC_NAMES:
            assert row[name] == pytest.approx(want[name], rel=2e-5)


def test_only_the_crop_is_pasted_and_must_fit():
    image = np.ones((2, 375, 1242, 3), np.uint8)
    frame = pasted(lambda crop: crop.sum(-1).astype(np.float32))(image)
    assert frame.shape == (2, 375, 1242) and np.count_nonzero(frame) == 2 * 352 * 1216
    assert (frame[:, 23:, 13:1229] == 3).all()
    with pytest.raises(ValueError, match=r"\(300, 1242\)"):
        pasted(predict)(image[:, :300])


@pytest.mark.parametrize("changes", [{}, {"median_scaling": True}, {"clamp": True}])
def test_pictures_show_the_depth_that_is_measured(changes):
    """`as_measured` gives the metrics that the protocol gives of the raw depth."""
    protocol = PROTOCOL._replace(**changes)
    (frame,) = frames(1)
    raw, target = 3 * predict(frame["image"]), frame["depth"]
    depth, scale = as_measured(raw, target, protocol=protocol)
    want = measure(raw[None], target[None], protocol=protocol)
    if protocol.median_scaling:
        assert scale == want["ratio"].item() != 1
    else:
        assert scale == 1
    same = protocol._replace(median_scaling=False, clamp=False)
    got = measure(depth[None], target[None], protocol=same)
    for name in metrics.METRIC_NAMES:
        assert got[name].item() == pytest.approx(want[name].item(), rel=1e-6)
    assert (depth.max() > 80) == (not changes)


def test_what_no_network_predicted_is_not_shown():
    protocol = PROTOCOL._replace(kb_crop=False, crop="none", median_scaling=True)
    raw = np.array([[0.0, np.nan, np.inf, 2.0]], np.float32)
    depth, scale = as_measured(raw, np.zeros((1, 4)), protocol=protocol)
    assert scale == 1 and depth.tolist() == [[0, 0, 80, 2]]


def test_without_a_cap_every_measured_pixel_counts():
    protocol = PROTOCOL._replace(crop="none", cap_target=False, clamp=True)
    (row,) = evaluate(predict, batched(1, 1), protocol=protocol).images
    (frame,) = frames(1)
    where = frame["depth"] > 0
    assert frame["depth"].max() > 80
    want = metrics_of_pixels(predict(frame["image"])[where], frame["depth"][where])
    assert row["pixels"] == where.sum()
    assert row["rmse"] == pytest.approx(want["rmse"], rel=1e-5)


def test_frames_that_windows_do_not_fit_are_counted():
    protocol = PROTOCOL._replace(crop="none", test_mode="shifted", kb_crop=False)
    batches = [*batched(1, 1, (40, 32)), *batched(2, 2, (32, 40))]
    assert evaluate(predict, batches, protocol=protocol).narrow == 1


def test_frames_whose_depth_is_not_finite_are_counted():
    protocol = PROTOCOL._replace(crop="none", kb_crop=False)

    def broken(image):
        return np.where(np.arange(40) == 7, np.nan, predict(image))

    result = evaluate(broken, batched(3, 2, (32, 40)), protocol=protocol)
    assert result.not_finite == 3
    assert "3 WITH DEPTH THAT IS NOT FINITE" in tables._counts(result)


def test_protocol_in_one_line():
    line = PROTOCOL._replace(name="kitti_eigen").line()
    assert line == (
        "kitti_eigen on kitti folder: KB crop, garg crop, 0.001 < depth < 80 m, no "
        "median scaling, test mode none"
    )
    other = PROTOCOL._replace(
        paste_back=True, cap_target=False, median_scaling=True, test_mode="shifted"
    ).line()
    for words in ("pasted back", "every depth", ", median scal", "(16 windows)"):
        assert words in other


NYU = PROTOCOL._replace(name="nyu", dataset="nyu", crop="nyu", kb_crop=False)
BTS = PROTOCOL._replace(name="kitti_eigen_bts", paste_back=True)


@pytest.mark.parametrize(
    "protocol, sizes, words",
    [
        (NYU, [(480, 640), (240, 320)], "drive/0 does not fit .*=nyu.*none"),
        (NYU, [(480, 640), (481, 640)], r"defined for \(480, 640\).*got \(481, 640\)"),
        (BTS, [(375, 1242), (188, 621)], "does not fit .*_bts.*data.kb_crop=False"),
        (BTS, [(375, 1242), (370, 1215)], r"at least \(352, 1216\).*got \(370, 1215\)"),
        (BTS, [(375, 1242), (376, 1241), (352, 1216)], ""),
        (NYU._replace(crop="none"), [(48, 64), (24, 32)], ""),
        (NYU._replace(crop="garg"), [(48, 64), (24, 33)], ""),
    ],
)
def test_later_frames_of_another_size(protocol, sizes, words):
    """They are measured where the protocol's crops are defined, else it is one line."""
    batches = [next(batched(1, 1, size)) for size in sizes]
    network = pasted(predict) if protocol.paste_back else predict
    if words:
        with pytest.raises(InputError, match=words):
            evaluate(network, batches, protocol=protocol)
        with pytest.raises(InputError, match=words):
            protocols.check_frame(protocol, sizes[-1], "drive/0")
        return
    found = evaluate(network, batches, protocol=protocol)
    alone = [evaluate(network, [one], protocol=protocol) for one in batches]
    for name in metrics.METRIC_NAMES:
        want = np.mean([one.metrics[name] for one in alone])
        assert found.metrics[name] == pytest.approx(want, rel=1e-6)
