"""Rules on sizes and cameras: what must fit in the image, and what looks unlikely."""

import math
from collections import Counter
from pathlib import Path

from amlr_jax import metrics
from amlr_jax.data import calibration
from amlr_jax.data.check.facts import SIZE, Facts
from amlr_jax.data.check.findings import FAULT, NOTE, WARNING, Examined, Finding
from amlr_jax.data.kitti import files
from amlr_jax.data.storage import size_name
from amlr_jax.runtime.errors import InputError

# Degrees across the image; KITTI has 81, NYUv2 63, a telephoto lens 20.
FIELD_OF_VIEW = (20, 150)
# The labelled set's toolbox gives one camera for images of this size.
_NYU_SIZE = (480, 640)


def sizes(examined: Examined) -> list[Finding]:
    """Image against depth, against its drive, and against the crops."""
    differ: dict[str, list[str]] = {}
    for fact in examined.facts:
        level = examined.level_of_damage(fact)
        texts = [p.text for p in fact.problems if p.kind == SIZE]
        differ.setdefault(level, []).extend(texts)
    findings = []
    for level, texts in differ.items():
        if texts:
            text = f"image and ground truth of {len(texts)} frames differ in size"
            findings.append(Finding("sizes", level, text, tuple(texts)))
    odd = tuple(_unlike_their_drive(examined))
    if odd:
        text = f"{len(odd)} images are of another size than most of their drive"
        findings.append(Finding("sizes", WARNING, text, odd))
    return findings + _crops(examined)


def _unlike_their_drive(examined: Examined):
    for facts in examined.groups().values():
        found = Counter(fact.size for fact in facts if fact.size)
        usual = found.most_common(1)[0][0] if found else None
        for fact in facts:
            if fact.size and fact.size != usual:
                yield f"{fact.key} {size_name(fact.size)}, not {size_name(usual)}"


def _crops(examined: Examined) -> list[Finding]:
    """Crops that do not fit, in the order in which they are made."""
    data, findings = examined.data, []
    small, narrow = {}, {}
    for fact in examined.facts:
        size = tuple(data.resize) or fact.size
        if not size:
            continue
        if data.kb_crop:
            if not _fits(metrics.KB_CROP_SHAPE, size):
                small[fact.key] = size
                continue
            size = metrics.KB_CROP_SHAPE
        if fact.part == "train" and not _fits(tuple(data.crop), size):
            narrow[fact.key] = size
    if small:
        text = (
            f"the KITTI benchmark crop {size_name(metrics.KB_CROP_SHAPE)} does not fit "
            f"in {len(small)} images; set --config.data.kb_crop=False"
        )
        findings.append(Finding("sizes", FAULT, text, _named(small)))
    if narrow:
        crop = tuple(data.crop)
        text = f"data.crop={crop} does not fit in {len(narrow)} training images"
        findings.append(Finding("sizes", FAULT, text, _named(narrow)))
    return findings


def _fits(crop: tuple, size: tuple[int, int]) -> bool:
    return crop[0] <= size[0] and crop[1] <= size[1]


def _named(sizes: dict[str, tuple[int, int]]) -> tuple[str, ...]:
    return tuple(f"{key} {size_name(size)}" for key, size in sizes.items())


def intrinsics(examined: Examined) -> list[Finding]:
    """Cameras that cannot be, or that are unlikely for the images' size."""
    cameras: dict[tuple, list[Facts]] = {}
    for fact in examined.facts:
        if fact.size:
            cameras.setdefault((fact.camera, fact.size), []).append(fact)
    findings = []
    for (camera, size), facts in cameras.items():
        names = tuple(dict.fromkeys(f.group or f.key for f in facts))
        for level, text in _camera(camera, size):
            findings.append(Finding("intrinsics", level, text, names))
    return findings + _nyu(examined) + _resized(examined)


def _camera(camera, size: tuple[int, int]):
    fx, fy, cx, cy = camera
    height, width = size
    given = f"fx {fx:.6g}, fy {fy:.6g}, cx {cx:.6g}, cy {cy:.6g} for {size_name(size)}"
    if not all(map(math.isfinite, camera)):
        yield NOTE, "no camera is known; self-supervision would need it"
        return
    if min(fx, fy) <= 0:
        yield FAULT, f"focal lengths must be positive: {given}"
        return
    if not (0 <= cx < width and 0 <= cy < height):
        yield FAULT, f"the principal point is outside the image: {given}"
    elif max(abs(cx / width - 0.5), abs(cy / height - 0.5)) > 0.2:
        yield WARNING, f"the principal point is far from the centre: {given}"
    view = math.degrees(2 * math.atan(width / 2 / fx))
    if not FIELD_OF_VIEW[0] <= view <= FIELD_OF_VIEW[1]:
        yield WARNING, f"the field of view would be {view:.0f} degrees: {given}"
    if not 0.8 <= fx / fy <= 1.25:
        yield WARNING, f"fx and fy differ by more than a quarter: {given}"


def _nyu(examined: Examined) -> list[Finding]:
    if not examined.layout.name.startswith("nyu"):
        return []
    odd = tuple(f.key for f in examined.facts if f.size and f.size != _NYU_SIZE)
    text = f"{len(odd)} images are not 480x640, for which NYUv2's camera holds"
    return [Finding("intrinsics", WARNING, text, odd)] if odd else []


def _resized(examined: Examined) -> list[Finding]:
    """KITTI's images of another size than their calibration is for."""
    if examined.layout.name != "kitti":
        return []
    odd = []
    for drive, facts in examined.groups().items():
        expected = _calibrated_size(Path(examined.data.root), drive)
        found = {fact.size for fact in facts if fact.size}
        if expected and found and expected not in found:
            odd.append(f"{drive} {size_name(min(found))}, not {size_name(expected)}")
    text = f"the images of {len(odd)} drives are not of the size of their calibration"
    return [Finding("intrinsics", WARNING, text, tuple(odd))] if odd else []


def _calibrated_size(root: Path, drive: str) -> tuple[int, int] | None:
    """Height and width of the rectified image; KITTI's own files tell it."""
    path = files.date_folder(root, drive) / calibration.CAM_TO_CAM
    row = f"S_rect_{files.LEFT[-2:]}"
    try:
        width, height = calibration.read_rows(path, {row: 2})[row]
    except InputError:
        return None
    return round(height), round(width)
