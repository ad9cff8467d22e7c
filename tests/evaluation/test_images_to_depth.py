"""Prediction from files: every image of a folder, whatever it is, or one clear line."""

import jax
import numpy as np
import pytest
from PIL import Image

from amlr_jax.errors import InputError
from amlr_jax.evaluation import images_to_depth
from amlr_jax.models import depth
from amlr_jax.training import pretrained

OPTIONS = {"max_depth": 10.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of a small network, as `convert` would write them."""
    network = depth.network("swin_v2_nano", **OPTIONS)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: (0.02 * rng.standard_normal(leaf.shape) + (leaf.ndim == 1)).astype(
            np.float32
        ),
        depth.variable_shapes(network),
    )
    folder = tmp_path_factory.mktemp("weights") / "nano"
    model = {"source": "test", "name": "swin_v2_nano", "options": OPTIONS}
    model |= {"complete": True, "parts": ["encoder", "decoder"]}
    pretrained.save(folder, variables, model)
    return folder


def _image(path, *, mode="RGB", size=(60, 40)):
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def test_a_folder_goes_on_past_a_bad_file(checkpoint, tmp_path, capsys):
    source, target = tmp_path / "images", tmp_path / "depth"
    _image(source / "a.png")
    _image(source / "below" / "grey.jpg", mode="L")
    (source / "page.png").write_text("<html>not found</html>")
    failed = images_to_depth.run(checkpoint, source, target)
    assert len(failed) == 1 and "page.png" in failed[0]
    for stem in ("a", "below/grey"):
        metres = np.load(target / f"{stem}_depth.npy")
        assert metres.shape == (40, 60)
        assert (metres > 0).all() and (metres < 10).all()
        assert (target / f"{stem}_depth.png").is_file()
        assert (target / f"{stem}_color.png").is_file()
    assert not list(target.glob("page*"))
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 of 3 images" in shown and "code / 1000" in shown


def test_an_image_turned_by_its_camera_is_upright(tmp_path):
    path = _image(tmp_path / "turned.jpg")
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6  # turn by a quarter
        image.save(path, exif=exif)
    assert images_to_depth.read_image(path).shape == (60, 40, 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda root: root / "absent", "does not exist"),
        (lambda root: root, "holds no image"),
    ],
)
def test_nothing_to_predict(make, message, tmp_path):
    with pytest.raises(InputError, match=message):
        images_to_depth.find_images(make(tmp_path))


def test_results_never_share_a_name_or_folder(checkpoint, tmp_path):
    for name in ("a.png", "a.jpg"):
        _image(tmp_path / "images" / name)
    with pytest.raises(InputError, match="images of one name.*a.jpg"):
        images_to_depth.run(checkpoint, tmp_path / "images", tmp_path / "out")
    with pytest.raises(InputError, match="--output must not be the folder"):
        images_to_depth.run(checkpoint, tmp_path / "images", tmp_path / "images")
