"""Rules on what training and test must not share."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from amlr_jax.data import splits
from amlr_jax.data.check.facts import Facts
from amlr_jax.data.check.findings import FAULT, NOTE, WARNING, Examined, Finding

# Of 256 signs. Measured: neighbours in a KITTI drive differ in 22 or more, frames of
# different NYUv2 scenes in 99 or more.
NEAR = 10
_ROWS = 512  # training frames compared at a time


def leak(examined: Examined) -> list[Finding]:
    """Frames, drives and images that are in both parts, or twice in one."""
    train, test = examined.part("train"), examined.part("test")
    findings = _drives(examined, train, test)
    findings += _keys(train, test)
    findings += _contents(train, test)
    if not examined.held_out_by_drive:
        findings += _alike(train, test)
    return findings + _eigen(examined, train)


def _drives(examined: Examined, train, test) -> list[Finding]:
    shared = tuple(sorted({f.group for f in train} & {f.group for f in test}))
    if not shared:
        return []
    if examined.held_out_by_drive:
        text = (
            "the last fifth of each drive or scene is the test of training on its "
            "other frames: no figure to publish"
        )
        return [Finding("leak", NOTE, text)]
    # Folders of one's own need not be scenes, but neighbours look alike.
    own = examined.layout.name == "custom"
    level = WARNING if own else FAULT
    text = f"{len(shared)} drives or scenes are in training and test"
    return [Finding("leak", level, text, tuple(group or "rgb/" for group in shared))]


def _keys(train: list[Facts], test: list[Facts]) -> list[Finding]:
    findings = []
    shared = tuple(sorted({f.key for f in train} & {f.key for f in test}))
    if shared:
        text = f"{len(shared)} frames are in training and test"
        findings.append(Finding("leak", FAULT, text, shared))
    for part, facts in (("training", train), ("test", test)):
        counts = Counter(fact.key for fact in facts)
        twice = tuple(key for key, count in counts.items() if count > 1)
        if twice:
            text = f"{len(twice)} {part} frames are listed more than once"
            findings.append(Finding("leak", WARNING, text, twice))
    return findings


def _contents(train: list[Facts], test: list[Facts]) -> list[Finding]:
    """Image files with the same bytes under different names."""
    trained = _by_digest(train)
    pairs = tuple(
        f"{fact.key} = {trained[fact.digest][0]}"
        for fact in test
        if fact.digest in trained and fact.key not in trained[fact.digest]
    )
    findings = []
    if pairs:
        text = f"{len(pairs)} test images are, byte for byte, training images"
        findings.append(Finding("leak", FAULT, text, pairs))
    for part, found in (("training", trained), ("test", _by_digest(test))):
        twice = tuple(" = ".join(keys) for keys in found.values() if len(keys) > 1)
        if twice:
            text = f"{len(twice)} {part} images occur more than once"
            findings.append(Finding("leak", WARNING, text, twice))
    return findings


def _by_digest(facts: list[Facts]) -> dict[bytes, list[str]]:
    found: dict[bytes, dict[str, None]] = {}
    for fact in facts:
        if fact.digest:
            found.setdefault(fact.digest, {})[fact.key] = None
    return {digest: list(keys) for digest, keys in found.items()}


def _alike(train: list[Facts], test: list[Facts]) -> list[Finding]:
    """Test images that look like a training image, by 256 signs of each."""
    train, test = ([f for f in part if f.look is not None] for part in (train, test))
    if not (train and test):
        return []
    pairs = tuple(
        f"{tested.key} ~ {trained.key}" for tested, trained in _near(train, test)
    )
    text = f"{len(pairs)} test images look like a training image of another name"
    return [Finding("leak", WARNING, text, pairs)] if pairs else []


def _near(train: list[Facts], test: list[Facts]) -> Iterator[tuple[Facts, Facts]]:
    looks = np.stack([fact.look for fact in test])
    seen = set()
    for first in range(0, len(train), _ROWS):
        rows = train[first : first + _ROWS]
        ours = np.stack([fact.look for fact in rows])
        signs = sum(
            np.bitwise_count(ours[:, None, i] ^ looks[None, :, i]).astype(np.int32)
            for i in range(looks.shape[1])
        )
        for row, column in zip(*np.nonzero(signs <= NEAR), strict=True):
            trained, tested = rows[row], test[column]
            # The same bytes or the same key are told elsewhere, and as a fault.
            new = tested.key != trained.key and tested.digest != trained.digest
            if new and tested.key not in seen:
                seen.add(tested.key)
                yield tested, trained


def _eigen(examined: Examined, train: list[Facts]) -> list[Finding]:
    """Drives of the Eigen test among those trained on."""
    if examined.layout.name != "kitti":
        return []
    tested = splits.eigen_test(with_depth=False)
    drives = tuple(sorted({fact.group for fact in train} & set(tested)))
    if not drives:
        return []
    text = f"drives of the Eigen test are trained on, {len(drives)} in all"
    if examined.data.list:
        return [Finding("leak", FAULT, f"{text}; take them out of data.list", drives)]
    text += ": no figure on the Eigen split can be had from this training"
    return [Finding("leak", NOTE, text, drives)]
