"""A run keeps its frames and its first weights; a change is refused, or recorded."""

import json
from types import SimpleNamespace

import pytest

from amlr_jax import config as keys
from amlr_jax.data import custom
from amlr_jax.data.frames import contents
from amlr_jax.models import pretrained
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import inputs
from tests.data import test_custom

NAMES = [f"a/{n:04d}" for n in range(20)]


def start(folder, root, *, saved=True, **changes):
    """What training does at a start; with `saved` it leaves a checkpoint."""
    layout = custom.read_layout(root)
    data = SimpleNamespace(contents=lambda part: contents(getattr(layout, part)))
    config = keys.base()
    config.update(changes)
    found = inputs.checked(folder, config, train_sets=data, test_sets=data)
    folder.mkdir(exist_ok=True)
    (folder / "inputs.json").write_text(json.dumps(found))
    if saved:
        (folder / "checkpoints/00000004").mkdir(parents=True, exist_ok=True)
    return found


def remove(root, *names):
    for name in names:
        for role in ("rgb", "depth"):
            (root / role / f"{name}.png").unlink()


@pytest.fixture
def root(tmp_path):
    return test_custom.write(tmp_path / "data", NAMES)


def test_the_same_data_elsewhere_goes_on(root, tmp_path):
    first = start(tmp_path / "run", root)
    assert (
        first["train"]["names"] == NAMES[:16] and first["test"]["names"] == NAMES[16:]
    )
    copy = test_custom.write(tmp_path / "copy", NAMES)
    assert start(tmp_path / "run", copy) == first


def test_frames_that_were_trained_on_are_never_the_test(root, tmp_path):
    start(tmp_path / "run", root)
    remove(root, *NAMES[10:])
    with pytest.raises(InputError, match="2 training frames now in the test") as no:
        start(tmp_path / "run", root)
    assert "a/0008, a/0009" in str(no.value) and "accept_changes=True" in str(no.value)
    found = start(tmp_path / "run", root, accept_changes=True)
    (change,) = found["changes"]
    assert (
        change["step"] == 4 and "2 training frames now in the test" in change["what"][0]
    )
    assert start(tmp_path / "run", root)["changes"] == [change]  # and is kept


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda root: test_custom.write(root, ["b/1"]),
            "1 training frame new (b/1)",
        ),
        (lambda root: remove(root, NAMES[0], NAMES[1]), "2 training frames gone"),
        (
            lambda root: (root / "test.txt").write_text("\n".join(NAMES[:3])),
            "3 training frames now in the test (a/0000",
        ),
        (
            lambda root: (root / "train.txt").write_text("\n".join(NAMES[:16][::-1])),
            "training frames are in another order",
        ),
        (
            lambda root: test_custom.write(root, NAMES[-1:], size=(40, 40)),
            "test frames have files of other sizes",
        ),
    ],
)
def test_each_change_is_named(root, tmp_path, change, words):
    if "order" in words:
        (root / "test.txt").write_text("\n".join(NAMES[16:]))
    start(tmp_path / "run", root)
    change(root)
    with pytest.raises(InputError) as caught:
        start(tmp_path / "run", root)
    assert words in str(caught.value)


def test_before_the_first_checkpoint_everything_may_change(root, tmp_path):
    start(tmp_path / "run", root, saved=False)
    remove(root, *NAMES[10:])
    assert start(tmp_path / "run", root)["changes"] == []


def test_other_weights_to_start_from(root, tmp_path):
    weights = tmp_path / "weights"
    (weights / "variables").mkdir(parents=True)
    (weights / "model.json").write_text("{}")
    (weights / "variables/one").write_text("1")
    first = start(tmp_path / "run", root, init_from=str(weights))
    moved = weights.rename(tmp_path / "moved")
    assert start(tmp_path / "run", root, init_from=str(moved))["changes"] == []
    gone = start(tmp_path / "run", root, init_from=str(weights))
    assert gone["init_from"]["files"] == first["init_from"]["files"]
    (moved / "variables/one").rename(moved / "variables/two")
    with pytest.raises(InputError, match="moved' holds other weights.*Restore them"):
        start(tmp_path / "run", root, init_from=str(moved))
    start(tmp_path / "run", root, init_from=str(moved), accept_changes=True)
    assert pretrained.fingerprint(tmp_path / "run") and not pretrained.fingerprint(root)


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_a_damaged_record_is_named(root, tmp_path, text):
    start(tmp_path / "run", root)
    (tmp_path / "run/inputs.json").write_text(text)
    with pytest.raises(InputError, match="inputs.json' is damaged: .*; remove it"):
        start(tmp_path / "run", root)
