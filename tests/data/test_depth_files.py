"""Ground truth of every format becomes the same metres, and faults are named."""

import ast
import io
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from amlr_jax.data import depth_files
from amlr_jax.data.frames import UNKNOWN_CAMERA, Frame, Layout
from amlr_jax.runtime.errors import InputError
from tests.data.exr_files import PIXELS, content
from tests.data.test_images import mutated

SIZE = (18, 3)


def read(path, *, size=SIZE, scale=1.0, projection=None, **options):
    frame = Frame("a/b", path.with_name("image.png"), path, UNKNOWN_CAMERA, projection)
    in_metres = options.pop("in_metres", path.suffix != ".png")
    layout = Layout("x", "y", scale, (frame,), (), in_metres, **options)
    return depth_files.read(frame, layout, size), layout


def saved(tmp_path, name, *arrays, **named):
    path = tmp_path / name
    save = np.savez if name.endswith("npz") else np.save
    save(path, *arrays, **named)
    return path


@pytest.mark.parametrize("ending", ["npy", "npz", "exr"])
def test_floats_are_kept_exactly(tmp_path, ending):
    path = tmp_path / f"depth.{ending}"
    if ending == "exr":
        path.write_bytes(content("zip32"))
    else:
        saved(tmp_path, path.name, PIXELS)
    depth, layout = read(path)
    assert depth.stored.dtype == np.float32
    np.testing.assert_array_equal(depth.stored[..., 0], PIXELS)
    assert depth_files.stored_scale(layout) == 1.0
    metres = depth.codes / depth_files.count_scale(layout)
    np.testing.assert_allclose(metres, PIXELS, atol=0.5 / 256)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint16, np.int32])
@pytest.mark.parametrize("shape", [(18, 3), (18, 3, 1), (1, 18, 3)])
def test_types_and_shapes(tmp_path, dtype, shape):
    values = np.arange(54).reshape(shape).astype(dtype)
    depth, _ = read(saved(tmp_path, "depth.npy", values), scale=10.0)
    want = np.arange(54, dtype=np.float32).reshape(18, 3, 1) / np.float32(10)
    np.testing.assert_array_equal(depth.stored, want)


def test_what_is_no_measurement(tmp_path):
    values = PIXELS.copy()
    values[0] = np.nan, np.inf, -np.inf
    values[1] = -1.0, 0.0, 10.5
    values[2] = 10.0, 1e-6, 1e10
    path = saved(tmp_path, "depth.npy", values)
    depth, layout = read(path, depth_cap=10.0)
    stored = depth.stored[..., 0]
    assert stored[:2].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert stored[2].tolist() == [10.0, np.float32(1e-6), 0.0]
    np.testing.assert_array_equal(stored[3:], PIXELS[3:])
    # For counting, what was measured is at least 1 and the cap the last code.
    assert depth.codes[:3].tolist() == [[0, 0, 0], [0, 0, 0], [65535, 1, 0]]
    assert depth_files.count_scale(layout) == 6553.5


def test_png_keeps_its_codes_unless_capped(tmp_path):
    codes = np.arange(54, dtype=np.uint16).reshape(SIZE) * 100
    path = tmp_path / "depth.png"
    cv2.imwrite(str(path), codes)
    depth, layout = read(path, scale=1000.0)
    np.testing.assert_array_equal(depth.stored[..., 0], codes)
    assert depth.stored.dtype == np.uint16
    assert depth_files.stored_scale(layout) == 1000.0
    capped, _ = read(path, scale=1000.0, depth_cap=2.0)
    want = np.where(codes > 2000, 0, codes)
    np.testing.assert_array_equal(capped.stored[..., 0], want)
    np.testing.assert_array_equal(capped.codes, want)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int16, np.float32])
@pytest.mark.parametrize("ending", ["tif", "TIFF"])
def test_tiff(tmp_path, dtype, ending):
    """Floats are metres; whole numbers need the number per metre."""
    values = np.arange(54).reshape(SIZE).astype(dtype)
    path = tmp_path / f"depth.{ending}"
    path.write_bytes(cv2.imencode(".tiff", values)[1].tobytes())
    if dtype != np.float32:
        with pytest.raises(InputError, match="whole numbers .*depth_scale=N"):
            read(path)
    scale = 1.0 if dtype == np.float32 else 10.0
    depth, _ = read(path, scale=scale)
    want = values.astype(np.float32) / np.float32(scale)
    np.testing.assert_array_equal(depth.stored[..., 0], want)


def test_tiff_that_is_no_depth(tmp_path):
    path = tmp_path / "depth.tif"
    for values in (np.ones(SIZE, np.uint8), np.ones((*SIZE, 3), np.uint16)):
        path.write_bytes(cv2.imencode(".tiff", values)[1].tobytes())
        with pytest.raises(InputError, match="a 16- or 32-bit grey TIFF as ground"):
            read(path)
    path.write_bytes(cv2.imencode(".tiff", np.ones(SIZE))[1].tobytes())  # float64
    with pytest.raises(InputError, match="depth.tif' is damaged or no image of a"):
        read(path)


CODES = np.uint16([[1, 1000, 65535], [9, 65535, 65534]])
METRES = np.float64([[1.5, 65.535, 2], [1e10, 65.5, 3.5]])


@pytest.mark.parametrize(
    "values, invalid, lost",
    [
        (CODES, (65535,), [[0, 0, 1], [0, 1, 0]]),
        (CODES, (1, 65535.0), [[1, 0, 1], [0, 1, 0]]),
        (CODES, (0.5, 70000, -1), np.zeros((2, 3))),
        (METRES.astype(np.float32), (65.535, 1e10), [[0, 1, 0], [1, 0, 0]]),
        (METRES, (65.535, 2), [[0, 1, 1], [0, 0, 0]]),
        (CODES.astype(np.int32), (65535, 9), [[0, 0, 1], [1, 1, 0]]),
    ],
)
def test_values_that_mean_not_measured(tmp_path, values, invalid, lost):
    path = tmp_path / "depth.npy"
    if values.dtype == np.uint16:
        path = tmp_path / "depth.png"
        cv2.imwrite(str(path), values)
    else:
        np.save(path, values)
    scale = 1.0 if values.dtype.kind == "f" else 10.0
    depth, _ = read(path, size=(2, 3), scale=scale, invalid_values=invalid)
    want = np.where(lost, 0, values)
    if path.suffix == ".npy":
        want = want.astype(np.float32) / np.float32(scale)
    np.testing.assert_array_equal(depth.stored[..., 0], want)
    assert ((depth.codes > 0) == (want > 0)).all()


def test_png_beside_scans_is_in_metres(tmp_path):
    """A layout with lidar depth keeps its PNGs as metres too."""
    codes = np.arange(54, dtype=np.uint16).reshape(SIZE)
    path = tmp_path / "depth.png"
    cv2.imwrite(str(path), codes)
    depth, _ = read(path, scale=256.0, in_metres=True)
    np.testing.assert_array_equal(depth.stored[..., 0] * 256, codes)


def test_scan_is_in_metres_whatever_the_scale(tmp_path):
    path = tmp_path / "scan.bin"
    np.array([[5.0, 4.0, 2.0, 0.3]], np.float32).tofile(path)
    plain = tuple(np.eye(3, 4).ravel())
    depth, _ = read(path, scale=256.0, projection=plain)
    assert np.argwhere(depth.stored).tolist() == [[1, 1, 0]]
    assert depth.stored[1, 1, 0] == 5.0  # forward, not the camera's 2


def test_arrays_of_an_npz(tmp_path):
    path = saved(tmp_path, "depth.npz", depth=PIXELS, mask=PIXELS > 1)
    depth, _ = read(path, depth_key="depth")
    np.testing.assert_array_equal(depth.stored[..., 0], PIXELS)
    for key in ("", "depht"):
        with pytest.raises(InputError, match="holds depth, mask; .*depth_key=NAME"):
            read(path, depth_key=key)


@pytest.mark.parametrize(
    "values, words",
    [
        (np.ones((18, 4)), "differ in size: .* is 18x3, .*depth.npy' is 18x4"),
        (np.ones((18, 3, 3)), r"must be an array \[H, W\] .* float64 \[18, 3, 3\]"),
        (np.ones(SIZE, bool), "of numbers, got bool"),
        (np.ones(SIZE, complex), "of numbers, got complex128"),
        (np.full(SIZE, None), "damaged or invalid: .*allow_pickle"),
        (np.ones(SIZE, np.uint16), "whole numbers .*depth_scale=N"),
    ],
)
def test_arrays_that_are_no_depth(tmp_path, values, words):
    with pytest.raises(InputError, match=words):
        read(saved(tmp_path, "depth.npy", values))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["npy", "npz", "exr"])
def test_no_mutated_header_raises_anything_else(tmp_path, ending):
    path = tmp_path / f"depth.{ending}"
    if ending == "exr":
        path.write_bytes(content("zip32"))
    else:
        saved(tmp_path, path.name, PIXELS)
    data, rng, damaged = path.read_bytes(), np.random.default_rng(3), 0
    for number in range(500):
        path.write_bytes(mutated(data, rng, number))
        try:
            read(path)
        except InputError as error:
            damaged += 1
            assert path.name in str(error) and "\n" not in str(error)
    assert damaged > 100


@pytest.mark.parametrize("ending", ["png", "npy", "npz", "exr", "bin"])
def test_damaged_files_are_named(tmp_path, ending):
    whole = {"exr": content("zip32"), "bin": b"\0" * 26}
    if ending == "png":
        whole["png"] = cv2.imencode(".png", np.ones(SIZE, np.uint16))[1].tobytes()
    if ending in ("npy", "npz"):
        buffer = io.BytesIO()
        (np.save if ending == "npy" else np.savez)(buffer, PIXELS)
        whole[ending] = buffer.getvalue()
    path = tmp_path / f"depth.{ending}"
    for damaged in (b"", b"text", whole[ending][: len(whole[ending]) // 2 + 1]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"ground truth '.*depth.{ending}'"):
            read(path, projection=(1.0,) * 12 if ending == "bin" else None)
    path.unlink()
    with pytest.raises(InputError, match="ground truth '.*' cannot be read"):
        read(path)


def test_two_threads_read_no_header_at_once(tmp_path, monkeypatch):
    # In Python 3.11 ast.literal_eval, which NumPy uses, is not safe there.
    inside, most = [], []
    literal_eval = ast.literal_eval

    def watched(text):
        inside.append(text)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return literal_eval(text)

    monkeypatch.setattr(ast, "literal_eval", watched)
    paths = [saved(tmp_path, f"depth.{end}", PIXELS) for end in ("npy", "npz")] * 4
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(read, paths))) == 8
    assert most == [1] * 8


def test_unknown_ending(tmp_path):
    (tmp_path / "depth.pfm").write_bytes(b"Pf")
    with pytest.raises(InputError, match="must end in one of .png, .tif"):
        read(tmp_path / "depth.pfm")
