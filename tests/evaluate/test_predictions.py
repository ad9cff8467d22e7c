"""Predictions that are files give the numbers that NumPy and SciPy give of them."""

import csv
import json
from functools import partial

import cv2
import numpy as np
import pytest

from amlr_jax import metrics
from amlr_jax.data import custom, sources
from amlr_jax.evaluate import comparison, of_predictions
from amlr_jax.evaluate.evaluator import evaluate_weights
from amlr_jax.evaluate.metric_sets import Choices
from amlr_jax.evaluate.prediction_files import depth_folder, find, matched
from amlr_jax.models import pretrained
from amlr_jax.runtime.errors import InputError
from configs import custom as custom_config
from configs import zero_shot
from tests.data import test_custom
from tests.data.exr_files import PIXELS, content
from tests.evaluate.test_command import command
from tests.test_metrics import numpy_metrics

SIZE = (24, 32)
NAMES = ("a/1", "a/2", "b/1")
rng = np.random.default_rng(0)
TRUTH = {name: rng.uniform(1, 60, SIZE).astype(np.float32) for name in NAMES}
for _depth in TRUTH.values():
    _depth[rng.random(SIZE) < 0.2] = 0
FOUND = {
    name: ((depth + 5) * rng.uniform(0.3, 0.5, SIZE)).astype(np.float32)
    for name, depth in TRUTH.items()
}


def save(path, depth, ending="npy", *, scale=1000):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.parent / f"{path.name}.{ending}"
    if ending == "npy":
        np.save(file, depth)
    elif ending == "npz":
        np.savez(file, depth=depth)
    elif ending == "png":
        cv2.imwrite(str(file), np.rint(depth * scale).astype(np.uint16))
    elif ending == "tiff":
        cv2.imwrite(str(file), depth)
    else:
        file.write_bytes(content("zip32"))  # PIXELS


@pytest.fixture
def folders(tmp_path):
    """Predictions and ground truth."""
    for name in NAMES:
        save(tmp_path / f"found/{name}_depth", FOUND[name])
        save(tmp_path / f"truth/{name}", TRUTH[name])
    return tmp_path / "found", tmp_path / "truth"


def evaluate(folders, choices=None, **options):
    config = of_predictions.default_config()
    choices = Choices(**choices or {})
    return of_predictions.evaluate_predictions(
        config, *folders, choices=choices, **options
    )


def pixels(name, found=FOUND):
    where = TRUTH[name] > 0
    return found[name][where].astype(float), TRUTH[name][where].astype(float)


def check(result, prediction, rtol=1e-4):
    """The means over the frames are those of NumPy's metrics of `prediction(p, g)`."""
    pairs = [pixels(name) for name in NAMES]
    want = [numpy_metrics(np.clip(prediction(p, g), 1e-3, 80), g) for p, g in pairs]
    for name in want[0]:
        mean = np.mean([row[name] for row in want])
        assert result.metrics[name] == pytest.approx(mean, rel=rtol), name


def test_metres_are_measured_as_they_are(folders, tmp_path):
    result = evaluate(folders, folder=tmp_path / "out")
    check(result, lambda p, g: p, rtol=1e-5)
    values = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert values["metrics"] == result.metrics and values["frames"] == 3
    assert {"align", "sets", "fit", "choices"}.isdisjoint(values["protocol"])
    every = np.concatenate([pixels(name)[1] for name in NAMES])
    assert values["protocol"]["median_depth"] == pytest.approx(
        np.median(every), rel=0.01
    )
    with (tmp_path / "out/per_image.csv").open(newline="") as file:
        assert [row["key"] for row in csv.DictReader(file)] == list(NAMES)
    assert cv2.imread(str(tmp_path / "out/frames.png")) is not None


def line_of(p, g, *, shift=True):
    columns = [p, np.ones_like(p)] if shift else [p]
    return np.stack(columns, -1) @ np.linalg.lstsq(np.stack(columns, -1), g)[0]


@pytest.mark.parametrize(
    "align, prediction",
    [
        ("median", lambda p, g: p * np.median(g) / np.median(p)),
        ("scale", lambda p, g: line_of(p, g, shift=False)),
        ("scale_shift", line_of),
        (
            "disparity_scale_shift",
            lambda p, g: 1 / np.maximum(line_of(p, 1 / g), 0.0125),
        ),
    ],
)
def test_alignment_of_each_image(folders, align, prediction):
    check(evaluate(folders, {"align": align}), prediction, rtol=1e-3)


@pytest.mark.parametrize("align", ["median", "scale", "scale_shift"])
def test_one_fit_for_the_set(folders, tmp_path, align):
    every = [np.concatenate(one) for one in zip(*map(pixels, NAMES), strict=True)]
    if align == "median":
        scale, shift = np.median(every[1]) / np.median(every[0]), 0.0
    elif align == "scale":
        scale, shift = np.sum(every[0] * every[1]) / np.sum(every[0] ** 2), 0.0
    else:
        scale, shift = np.polyfit(*every, 1)
    choices = {"align": align, "align_over": "set"}
    result = evaluate(folders, choices, folder=tmp_path / "out")
    check(result, lambda p, g: scale * p + shift)
    values = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert values["protocol"]["fit"] == pytest.approx(
        [scale, shift], rel=1e-6, abs=1e-6
    )
    assert result.constant == evaluate(folders).constant


def test_robust_alignment_ignores_a_few_wrong_pixels(folders):
    wrong = {name: FOUND[name].copy() for name in NAMES}
    for name in NAMES:
        wrong[name] = np.maximum(TRUTH[name] / 3, 0.1).astype(np.float32)
        wrong[name][:2] *= 4
        np.save(folders[0] / f"{name}_depth.npy", wrong[name])
    plain, robust = (
        evaluate(folders, {"align": "scale", "align_robust": r}) for r in (False, True)
    )
    assert robust.metrics["d1"] > 0.9 > plain.metrics["d1"]


def test_sets_and_bands(folders, tmp_path):
    choices = {"sets": ("kitti", "delta"), "bands": (0.0, 20.0, 40.0, 90.0)}
    result = evaluate(folders, choices, folder=tmp_path / "out")
    silog, counts = [], np.zeros(3, int)
    shares = [[], [], []]
    for p, g in map(pixels, NAMES):
        d = np.log(p) - np.log(g)
        silog.append(100 * np.std(d))
        for k, (near, far) in enumerate([(0, 20), (20, 40), (40, 90)]):
            inside = (g >= near) & (g < far)
            counts[k] += inside.sum()
            ratio = np.maximum(p / g, g / p)[inside]
            shares[k].append(np.mean(ratio < 1.10))
    assert result.metrics["kitti_silog"] == pytest.approx(np.mean(silog), rel=1e-4)
    assert "abs_rel" not in result.metrics
    assert [band["pixels"] for band in result.bands] == counts.tolist()
    assert counts.sum() == sum(row["pixels"] for row in result.images)
    for band, share in zip(result.bands, shares, strict=True):
        assert band["metrics"]["d1.10"] == pytest.approx(np.mean(share), abs=1e-6)
    values = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert [band["far"] for band in values["bands"]] == [20, 40, 90]


def test_edges_of_dense_depth(folders):
    dense = {name: np.maximum(depth, 1) for name, depth in TRUTH.items()}
    for name, depth in dense.items():
        np.save(folders[1] / f"{name}.npy", depth)
        np.save(folders[0] / f"{name}_depth.npy", depth * 2)
    result = evaluate(folders, {"sets": ("standard", "boundary")})
    assert result.metrics["boundary_f1"] == pytest.approx(1.0)
    for name, depth in dense.items():
        np.save(folders[1] / f"{name}.npy", np.where(rng.random(SIZE) < 0.3, depth, 0))
    with pytest.raises(InputError, match="needs dense ground truth; only .*%"):
        evaluate(folders, {"sets": ("boundary",)})


def test_frames_of_files_show_images_and_holes(tmp_path):
    """A hole of the prediction where nothing is measured is no nearest depth."""
    root = test_custom.write(tmp_path / "data", ["a/1", "a/2"])
    config = custom_config.get_config("tiny")
    config.data.root, config.data.split = str(root), custom.ALL
    for name in ("a/1", "a/2"):
        depth = cv2.imread(str(root / f"depth/{name}.png"), -1).astype(np.float32)
        depth[:8] = 0
        cv2.imwrite(str(root / f"depth/{name}.png"), depth.astype(np.uint16))
        save(tmp_path / f"found/{name}", depth / 500)
    widths = {}
    for align in ("scale", "none"):
        out, choices = tmp_path / align, Choices(align=align)
        of_predictions.evaluate_predictions(
            config, tmp_path / "found", folder=out, choices=choices
        )
        picture = cv2.imread(str(out / "frames.png"))
        widths[align] = picture.shape[1]
        prediction = picture[24:28, 2 * 480 + 8 : 3 * 480 - 8]
        assert np.ptp(prediction) == 0 and np.ptp(prediction[0, 0]) == 0  # grey
    assert widths == {"scale": 4 * 480, "none": 4 * 480}


def test_annotated_edges_of_ibims(tmp_path):
    """Errors of edges are of the frames in which edges are annotated."""
    root, config = tmp_path / "ibims", zero_shot.get_config("ibims")
    config.data.root = str(root)
    step = np.where(np.arange(32) < 15, 2.0, 4.0) * np.ones((24, 1))
    at = np.zeros((24, 32), np.uint8)
    at[:, 14:16] = 1
    for name, edges in (("a", at), ("b", 0 * at)):
        for folder, pixels in (
            ("rgb", np.zeros((24, 32, 3), np.uint8)),
            ("depth", np.rint(step * 65535 / 50).astype(np.uint16)),
            ("mask_invalid", at + 1), ("mask_transp", at + 1), ("edges", edges),
        ):  # fmt: skip
            (root / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / folder / f"{name}.png"), pixels)
        save(tmp_path / "found" / name, 3 * np.roll(step, 2, axis=1)[:, ::-1] + 1)
    run = partial(
        of_predictions.evaluate_predictions, config, tmp_path / "found",
        choices=Choices(sets=("boundary",), align="median"),
    )  # fmt: skip
    result = run(folder=tmp_path / "out")
    of_a = metrics.boundary_errors(np.roll(step, 2, axis=1)[:, ::-1], at)
    want = {"dbe_acc": of_a.accuracy, "dbe_com": of_a.completeness}
    assert {k: result.metrics[k] for k in want} == pytest.approx(want, rel=1e-4)
    assert result.constant["dbe_acc"] == result.constant["dbe_com"] == 10
    rows = (tmp_path / "out/per_image.csv").read_text().splitlines()
    assert rows[0].startswith("key,boundary_f1,dbe_acc,dbe_com,")
    assert ",,," in rows[2] and ",,," not in rows[1]
    same = comparison.compare(tmp_path / "out", tmp_path / "out")
    assert same["dbe_com"].second == pytest.approx(want["dbe_com"], rel=1e-4)
    cv2.imwrite(str(root / "edges/b.png"), at[:5])
    with pytest.raises(InputError, match="edges '.*b.png' are 5x32 and the frame"):
        run()


@pytest.mark.parametrize("ending", ["png", "npz", "tiff"])
def test_every_format_gives_what_npy_gives(folders, tmp_path, ending):
    want = evaluate(folders).metrics["abs_rel"]
    for name in NAMES:
        save(tmp_path / f"other/{name}", FOUND[name], ending, scale=500)
    scale = 500 if ending == "png" else 0.0
    got = evaluate((tmp_path / "other", folders[1]), scale=scale).metrics["abs_rel"]
    assert got == pytest.approx(want, rel=1e-4 if ending == "png" else 1e-7)


def test_exr(tmp_path):
    where = PIXELS > 0
    save(tmp_path / "truth/1", np.where(where, 2 * PIXELS, 0))
    save(tmp_path / "found/1/depth", PIXELS, "exr")
    result = evaluate((tmp_path / "found", tmp_path / "truth"))
    assert result.images[0]["pixels"] == where.sum()
    assert result.metrics["abs_rel"] == pytest.approx(0.5)


def test_pngs_of_predict_have_their_scale_beside_them(folders, tmp_path):
    for name in NAMES:
        save(tmp_path / f"other/{name}_depth", FOUND[name], "png", scale=256)
        (tmp_path / f"other/{name}_color.png").write_bytes(b"a picture, passed over")
    record = {"png16_codes_per_unit": 256}
    (tmp_path / "other/predictions.json").write_text(json.dumps(record))
    got = evaluate((tmp_path / "other", folders[1])).metrics["abs_rel"]
    assert got == pytest.approx(evaluate(folders).metrics["abs_rel"], rel=1e-2)


def test_names(tmp_path):
    """With marks or without, with folders or without, the exact one of two formats."""
    for name in ("rgb_1_depth.npy", "rgb_1_depth.png", "2/depth.exr", "1_color.png"):
        save(tmp_path / "found" / name.rpartition(".")[0], np.ones(SIZE, np.float32),
             name.rpartition(".")[2])  # fmt: skip
    save(tmp_path / "truth/scene/sync_depth_1", np.ones(SIZE, np.float32))
    save(tmp_path / "truth/scene/sync_depth_2", np.ones(SIZE, np.float32))
    found, notes = find(tmp_path / "found", option="predictions")
    frames = depth_folder(tmp_path / "truth", depth_scale=0.0).test
    files, _ = matched(found, frames, tmp_path / "found")
    assert {f.key: path.name for f, path in zip(frames, files, strict=True)} == {
        "scene/1": "rgb_1_depth.npy",
        "scene/2": "depth.exr",
    }
    assert notes and "2 files are passed over" in notes[0]


def test_other_sizes_only_with_permission(folders, capsys):
    small = {name: cv2.resize(FOUND[name], (16, 12)) for name in NAMES}
    for name, depth in small.items():
        np.save(folders[0] / f"{name}_depth.npy", depth)
    with pytest.raises(InputError, match=r"a/1_depth.npy' is .*--resize permits"):
        evaluate(folders)
    result = evaluate(folders, resize=True)
    assert "resized" in capsys.readouterr().out
    p = cv2.resize(small["a/1"], SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    want = numpy_metrics(*pixels("a/1", {"a/1": p}))
    assert result.images[0]["abs_rel"] == pytest.approx(want["abs_rel"], rel=1e-5)


def spoil(folders, fault):
    found, truth = folders
    first = found / "a/1_depth.npy"
    if fault == "lost":
        first.unlink()
    if fault == "none":
        for path in found.rglob("*.npy"):
            path.unlink()
    if fault == "two frames":
        (found / "b/1_depth.npy").unlink()
        first.rename(found / "1_depth.npy")
    if fault == "constant":
        np.save(first, np.full(SIZE, 2.0, np.float32))
    if fault == "hole":
        np.save(first, np.where(TRUTH["a/1"] > 50, np.nan, FOUND["a/1"]))
    if fault == "few":
        few = np.zeros(SIZE, np.float32)
        few[3, :4] = 5
        np.save(truth / "a/1.npy", few)
    if fault == "far":
        for name in NAMES:
            np.save(truth / f"{name}.npy", TRUTH[name] + 100)
    if fault == "unmeasured":
        for name in NAMES:
            np.save(truth / f"{name}.npy", 0 * TRUTH[name])
    if fault == "codes":
        np.save(first, (100 * FOUND["a/1"]).astype(np.uint16))
    if fault == "damaged":
        first.write_bytes(b"no array")
    if fault == "two names":
        np.save(found / "a/rgb_1_depth.npy", FOUND["a/1"])


@pytest.mark.parametrize(
    "fault, choices, message",
    [
        ("lost", {}, "1 frame of 3 have no prediction in .*: a/1; it holds a/2, b/1"),
        ("none", {}, "--predictions '.*found' holds no depth map"),
        ("two frames", {}, "1_depth.npy' fits 2 frames, a/1, b/1; put predictions"),
        ("two names", {}, "have one name; keep one of them"),
        ("constant", {"align": "scale_shift"}, "frame a/1 is one value .* no scale"),
        ("hole", {}, "frame a/1 is 0, negative or not finite at .* evaluated pixels"),
        ("few", {"align": "scale"}, "frame a/1 has 4 evaluated pixels, .* needs 10"),
        ("far", {}, "no pixel to evaluate in 3 test frames"),
        ("unmeasured", {}, "no pixel of 3 ground truths is measured"),
        ("codes", {}, "whole numbers .* with --prediction_scale=N"),
        ("damaged", {}, "prediction '.*a/1_depth.npy' is damaged"),
        ("", {"sets": ("kiti",)}, "--metrics must be one of .* did you mean kitti?"),
        ("", {"sets": ("kitti", "kitti")}, "names a set twice"),
        ("", {"bands": (20.0, 0.0)}, "--bands must be two or more metres that rise"),
        ("", {"align_over": "set"}, "--align_over=set needs --align"),
        ("", {"align": "median", "align_robust": True}, "--align_robust is for"),
    ],
)  # fmt: skip
def test_mistakes(folders, fault, choices, message):
    spoil(folders, fault)
    with pytest.raises(InputError, match=message):
        evaluate(folders, choices)


def test_files_equal_the_network_that_made_them(tmp_path, monkeypatch):
    """On every frame of a folder, by `data.split=all`."""
    root = test_custom.write(tmp_path / "data", ["a/1", "a/2"])
    config = custom_config.get_config("tiny")
    config.data.root, config.data.cache = str(root), str(tmp_path / "cache")
    config.data.split = custom.ALL
    monkeypatch.setattr(
        "amlr_jax.evaluate.evaluator.Evaluator.predict",
        lambda self, variables: lambda image: 1 + image[..., 0].astype(np.float32) / 9,
    )
    monkeypatch.setattr(
        "amlr_jax.evaluate.evaluator.pretrained.load_network",
        lambda source: pretrained.Loaded(None, {}, 80.0),
    )
    monkeypatch.setattr(
        "amlr_jax.evaluate.evaluator.depth.precision_of", lambda network: Choices()
    )
    by_network = evaluate_weights(config, tmp_path / "out", tmp_path)
    for name in ("a/1", "a/2"):
        image = cv2.imread(str(root / f"rgb/{name}.png"))
        save(tmp_path / f"found/{name}", 1 + image[..., 2].astype(np.float32) / 9)
    files = of_predictions.evaluate_predictions(config, tmp_path / "found")
    assert files.metrics == by_network.metrics and files.frames == 2
    assert files.constant == by_network.constant


def test_all_is_for_evaluation_without_lists(tmp_path):
    config = custom_config.get_config("tiny").data
    config.root, config.split, config.list = str(tmp_path), "all", "train.txt"
    with pytest.raises(InputError, match="without lists, all, which is for evaluation"):
        sources.read_layout(config)


def test_comparison_is_scipys_paired_bootstrap(folders, tmp_path):
    from scipy import stats

    better = {n: (0.4 * FOUND[n] + 0.6 * TRUTH[n]).astype(np.float32) for n in NAMES}
    evaluate(folders, folder=tmp_path / "one")
    for name in NAMES:
        save(tmp_path / f"better/{name}", np.maximum(better[name], 0.1))
    evaluate((tmp_path / "better", folders[1]), folder=tmp_path / "two")
    found = comparison.compare(tmp_path / "one", tmp_path / "two", tmp_path / "both")
    assert found["abs_rel"].differs and found["abs_rel"].high < 0
    values = json.loads((tmp_path / "both/comparison.json").read_text())
    assert values["metrics"]["abs_rel"]["low"] == found["abs_rel"].low
    differences = rng.normal(0.3, 1, (60, 1))
    got = comparison.bootstrap_interval(differences).ravel()
    want = stats.bootstrap(
        (differences[:, 0],), np.mean, method="percentile", random_state=1
    ).confidence_interval
    np.testing.assert_allclose(got, want, atol=0.02)
    with pytest.raises(InputError, match="has no per_image.csv; evaluate there first"):
        comparison.compare(tmp_path / "one", tmp_path)
    evaluate(folders, {"bands": (0.0, 9.0)}, folder=tmp_path / "three")
    text = (tmp_path / "three/per_image.csv").read_text().replace("a/1", "c/1")
    (tmp_path / "three/per_image.csv").write_text(text)
    with pytest.raises(InputError, match="same frames; 2 frames .* a/1, c/1"):
        comparison.compare(tmp_path / "one", tmp_path / "three")


def test_the_command(folders, tmp_path):
    found, truth = folders
    common = f"--predictions={found}", f"--workdir={tmp_path / 'out'}"
    more = "--align=median", "--metrics=kitti", "--bands=0,40,80", "--max_depth=50"
    done = command([*common, f"--ground_truth={truth}"], *more)
    assert done.returncode == 0, done.stderr
    for words in ("iRMSE 1/km", "0-40 m: ", "depth < 50 m, median scaling"):
        assert words in " ".join(done.stdout.split())
    bad = command([*common, f"--ground_truth={truth}"], "--test_mode=flip")
    assert bad.returncode == 1 and "Traceback" not in bad.stderr
    assert "--test_mode has no meaning beside --predictions" in bad.stderr
