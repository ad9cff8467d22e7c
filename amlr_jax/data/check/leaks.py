"""Rules on training and test: which frames are the test, and what leaks into it."""

from collections import Counter
from itertools import pairwise

from amlr_jax.data import splits
from amlr_jax.data.check.facts import Examined, Facts
from amlr_jax.data.check.findings import FAULT, NOTE, WARNING, Finding, named
from amlr_jax.data.frames import by_group
from amlr_jax.runtime.errors import counted
from amlr_jax.runtime.paths import last_number, natural


def leak(examined: Examined) -> list[Finding]:
    """Drives, frames and images that are in both parts, or twice in one."""
    train, test = examined.part("train"), examined.part("test")
    findings = _test_frames(test) + _shared_drives(examined, train, test)
    findings += _neighbours(train, test)
    keys, tested = (Counter(fact.key for fact in part) for part in (train, test))
    text = "{n:frame is|frames are} in training and test"
    findings += named("leak", FAULT, text, sorted(keys.keys() & tested.keys()))
    images, test_images = _by_digest(train), _by_digest(test)
    same = [
        f"{key} = {images[digest][0]}"
        for digest, names in test_images.items()
        for key in names
        if digest in images and key not in images[digest]
    ]
    text = "{n:test image is|test images are} identical to training images"
    findings += named("leak", FAULT, text, same)
    for part, count, known in (
        ("training", keys, images),
        ("test", tested, test_images),
    ):
        twice = [key for key, times in count.items() if times > 1]
        text = f"{{n:{part} frame is|{part} frames are}} listed more than once"
        findings += named("leak", WARNING, text, twice)
        twice = [" = ".join(names) for names in known.values() if len(names) > 1]
        text = f"{{n:{part} image occurs|{part} images occur}} more than once"
        findings += named("leak", WARNING, text, twice)
    return findings + _eigen(examined, train)


def _shared_drives(
    examined: Examined, train: list[Facts], test: list[Facts]
) -> list[Finding]:
    shared = sorted({f.group for f in train} & {f.group for f in test})
    if shared and examined.layout.split in ("folder", "list-folder"):
        text = (
            "the last fifth of each drive or scene is the test of training on its "
            "other frames: results are not comparable with published ones"
        )
        return [Finding("leak", NOTE, text)]
    # Custom folders need not be scenes, but neighbours look alike.
    level = WARNING if examined.layout.name == "custom" else FAULT
    text = "{n:drive or scene is|drives or scenes are} in training and test"
    return named("leak", level, text, [group or "rgb/" for group in shared])


def _test_frames(test: list[Facts]) -> list[Finding]:
    """Which frames of each drive or scene are the test."""
    names = []
    for group, facts in by_group(test).items():
        keys = sorted((fact.key.rpartition("/")[2] for fact in facts), key=natural)
        span = keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]}"
        names.append(f"{group or '.'}: {span} ({len(keys)})")
    text = f"the test is {counted(len(test), 'frame')}, by drive or scene"
    return named("leak", NOTE, text, sorted(names, key=natural))


def _neighbours(train: list[Facts], test: list[Facts]) -> list[Finding]:
    """Test frames beside training frames of their sequence, but for one border each."""
    tested = {fact.key for fact in test}
    sequences: dict[str, list[tuple]] = {}
    for key in {fact.key for fact in (*train, *test)}:
        if found := last_number(key):
            form, number = found
            sequences.setdefault(form, []).append((number, key in tested, key))
    beside = []
    for frames in sequences.values():
        frames.sort()
        borders = [
            first[2] if first[1] else second[2]
            for first, second in pairwise(frames)
            if first[1] != second[1]
        ]
        beside += borders[1:]
    text = (
        "{n:test frame stands|test frames stand} between training frames of the same "
        "sequence, which may show nearly the same"
    )
    return named("leak", WARNING, text, sorted(set(beside), key=natural))


def _by_digest(facts: list[Facts]) -> dict[bytes, list[str]]:
    """The different keys of each image."""
    found: dict[bytes, list[str]] = {}
    for fact in facts:
        names = found.setdefault(fact.digest, []) if fact.digest else [fact.key]
        if fact.key not in names:
            names.append(fact.key)
    return found


def _eigen(examined: Examined, train: list[Facts]) -> list[Finding]:
    """Drives of the Eigen test among those trained on."""
    if examined.layout.name != "kitti":
        return []
    tested = splits.eigen_test(with_depth=False)
    drives = sorted({fact.group for fact in train} & set(tested))
    text = "{n:drive of the Eigen test is|drives of the Eigen test are} in training"
    if examined.data.list:
        return named("leak", FAULT, f"{text}; take them out of data.list", drives)
    text += ": results on the Eigen split are not valid"
    return named("leak", NOTE, text, drives)
