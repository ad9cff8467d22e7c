"""Rules on the facts: counts, files, sizes and cameras."""

import math
from collections import Counter
from collections.abc import Iterator

from amlr_jax import metrics
from amlr_jax.data import benchmarks, calibration, nyu, splits
from amlr_jax.data.cameras import OFF_CENTRE, off_centre
from amlr_jax.data.check.facts import MISSING, SIZE, Examined, Facts, FileFault
from amlr_jax.data.check.findings import FAULT, NOTE, WARNING, Finding, named
from amlr_jax.data.frames import Layout
from amlr_jax.data.kitti import files as kitti_files
from amlr_jax.data.storage import size_name
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError

# KITTI's depth devkit has 85,898 and 6,852 frames of two cameras.
BENCHMARK = {"train": 42949, "test": 3426}
PART_NAMES = {"train": "training", "test": "test"}
# Field of view in degrees; KITTI has 81, NYUv2 63, a telephoto lens 20.
FIELD_OF_VIEW = (20, 150)
_NYU_SIZE = (480, 640)  # image size of the camera of the labelled set's toolbox


# ------------------------------------------------------------------ counts and files


def counts(examined: Examined) -> list[Finding]:
    """Frames with both files, compared with published numbers where known."""
    found = {part: _whole(examined.part(part)) for part in examined.parts}
    text = " and ".join(f"{n} {PART_NAMES[part]}" for part, n in found.items())
    noun = "frame" if list(found.values()) == [1] else "frames"
    text = f"{text} {noun}" if text else "no test frame, nothing to evaluate"
    groups = examined.groups()
    whole = sum(_whole(facts) > 0 for facts in groups.values())
    text += f" in {whole} drives or scenes" if whole > 1 else ""
    findings = [Finding("counts", NOTE, text)]
    lacking = (part for part in examined.parts if not examined.part(part))
    findings += [Finding("counts", FAULT, f"no {p} frame at all") for p in lacking]
    wanted, level = _published(examined.layout)
    short = [
        f"{part} {found[part]} of {wanted[part]}"
        for part in wanted
        if found.get(part, wanted[part]) != wanted[part]
    ]
    if short:
        text = (
            f"not the published numbers of data.split={examined.layout.split} "
            f"({'; '.join(short)}); for a partial copy use --config.data.split=folder"
        )
        drives = tuple(
            f"{group} has {_whole(facts)} of {len(facts)}"
            for group, facts in groups.items()
            if _whole(facts) < len(facts)
        )
        findings.append(Finding("counts", level, text, drives))
    return findings


def _whole(facts: list[Facts]) -> int:
    return sum(not (f.lacks("image") or f.lacks("ground truth")) for f in facts)


def _published(layout: Layout) -> tuple[dict[str, int], str]:
    """The numbers of a split by name, and the level of a deviation."""
    if layout.name == "kitti" and layout.split in ("eigen", "eigen_697"):
        parts = zip(("train", "test"), splits.kitti_split(layout.split), strict=True)
        return {name: sum(map(len, part.values())) for name, part in parts}, FAULT
    if layout.name == "kitti" and layout.split == "benchmark":
        return BENCHMARK, WARNING
    if layout.name == "nyu" and layout.split == "official":
        return nyu.SIZES, FAULT
    return {}, NOTE


def files(examined: Examined) -> list[Finding]:
    """Files that are missing, damaged or of the wrong kind."""
    findings = []
    for role in ("image", "ground truth"):
        found: dict[tuple[str, str], list[str]] = {}
        for level, fault in _faults(examined):
            if fault.role == role and fault.kind not in (MISSING, SIZE):
                found.setdefault((fault.kind, level), []).append(fault.text)
        for (kind, level), texts in found.items():
            findings += named("files", level, f"{{n:{role} file}}: {kind}", texts)
        lost = sum(fact.lacks(role) for fact in examined.facts)
        text = f"{role} of {lost} of {len(examined.facts)} frames missing"
        findings += named("files", FAULT, text, tuple(_missing(examined, role)))
    return findings


def _faults(examined: Examined) -> Iterator[tuple[str, FileFault]]:
    """Each with its level: damaged training frames are left out with data.skip_bad."""
    for fact in examined.facts:
        left_out = examined.data.skip_bad and fact.part == "train"
        yield from ((WARNING if left_out else FAULT, fault) for fault in fact.faults)


def _missing(examined: Examined, role: str) -> Iterator[str]:
    """A line for a whole drive or scene, else one for each file."""
    for group, facts in examined.groups().items():
        lost = [fact for fact in facts if fact.lacks(role)]
        if len(lost) > 1 and len(lost) == len(facts):
            yield f"all {len(lost)} of {group}"
        else:
            faults = (fault for fact in lost for fault in fact.faults)
            yield from (fault.file for fault in faults if fault.role == role)


# ----------------------------------------------------------------- sizes and cameras


def sizes(examined: Examined) -> list[Finding]:
    """Size of image against depth, against its drive, and against the crops."""
    findings, odd = [], []
    for asked in (FAULT, WARNING):
        faults = (fault for level, fault in _faults(examined) if level == asked)
        differ = [fault.text for fault in faults if fault.kind == SIZE]
        text = "image and ground truth of {n:frame} differ in size"
        findings += named("sizes", asked, text, differ)
    for facts in examined.groups().values():
        found = Counter(fact.size for fact in facts if fact.size)
        usual = found.most_common(1)[0][0] if found else None
        odd += [
            f"{fact.key} {size_name(fact.size)}, not {size_name(usual)}"
            for fact in facts
            if usual and fact.size and fact.size != usual
        ]
    text = "{n:image is|images are} of another size than most of the drive"
    return findings + named("sizes", WARNING, text, odd) + _crops(examined)


def _crops(examined: Examined) -> list[Finding]:
    """Crops that do not fit, in the order in which they are made."""
    data, crop = examined.data, tuple(examined.data.crop)
    small, narrow = [], []
    for fact in examined.facts:
        size = tuple(data.resize) or fact.size
        if not size:
            continue
        if data.kb_crop:
            if not _fits(metrics.KB_CROP_SHAPE, size):
                small.append(f"{fact.key} {size_name(size)}")
                continue
            size = metrics.KB_CROP_SHAPE
        if fact.part == "train" and not _fits(crop, size):
            narrow.append(f"{fact.key} {size_name(size)}")
    text = f"the KITTI benchmark crop {size_name(metrics.KB_CROP_SHAPE)} does not fit"
    text += " in {n:image}; set --config.data.kb_crop=False"
    findings = named("sizes", FAULT, text, small)
    text = f"data.crop={crop} does not fit in {{n:training image}}"
    return findings + named("sizes", FAULT, text, narrow)


def _fits(crop: tuple[int, ...], size: tuple[int, ...]) -> bool:
    return crop[0] <= size[0] and crop[1] <= size[1]


def cameras(examined: Examined) -> list[Finding]:
    """Cameras that are impossible, or unlikely for the images' size."""
    found: dict[tuple, list[Facts]] = {}
    for fact in examined.facts:
        if fact.size:
            found.setdefault((fact.camera, fact.size), []).append(fact)
    findings = []
    for (camera, size), facts in found.items():
        names = tuple(dict.fromkeys(fact.group or fact.key for fact in facts))
        if not all(map(math.isfinite, camera)):
            text = "no camera is known; self-supervision needs one"
            may_lack = ("custom", *benchmarks.SETS)
            level = NOTE if examined.layout.name in may_lack else FAULT
            findings.append(Finding("intrinsics", level, text, names))
            continue
        for level, text in _doubts(camera, size):
            findings.append(Finding("intrinsics", level, text, names))
    odd = []
    for group, facts in examined.groups().items():
        known, wanted = {f.size for f in facts if f.size}, _camera_size(examined, group)
        if wanted and known and wanted not in known:
            odd.append(f"{group} {size_name(min(known))}, not {size_name(wanted)}")
    text = "{n:drive or scene has|drives or scenes have} images of another size"
    text += " than their camera"
    return findings + named("intrinsics", WARNING, text, odd)


def _doubts(
    camera: tuple[float, ...], size: tuple[int, int]
) -> Iterator[tuple[str, str]]:
    (fx, fy, cx, cy), (height, width) = camera, size
    given = f"fx {fx:.6g}, fy {fy:.6g}, cx {cx:.6g}, cy {cy:.6g} for {size_name(size)}"
    if not (0 <= cx < width and 0 <= cy < height):
        yield FAULT, f"the principal point is outside the image: {given}"
    elif off_centre((fx, fy, cx, cy), size) > OFF_CENTRE:
        yield WARNING, f"the principal point is far from the centre: {given}"
    view = math.degrees(2 * math.atan(width / 2 / fx))
    if not FIELD_OF_VIEW[0] <= view <= FIELD_OF_VIEW[1]:
        yield WARNING, f"the field of view would be {view:.0f} degrees: {given}"
    if not 0.8 <= fx / fy <= 1.25:
        yield WARNING, f"fx and fy differ by more than a quarter: {given}"


def _camera_size(examined: Examined, group: str) -> tuple[int, int] | None:
    """Height and width of the camera's images, where known."""
    if examined.layout.name.startswith("nyu"):
        return _NYU_SIZE
    if examined.layout.name != "kitti":
        return None
    date = kitti_files.date_folder(paths.expanded(examined.data.root), group)
    try:
        rows = calibration.read_rows(date / calibration.CAM_TO_CAM, {"S_rect_02": 2})
    except InputError:
        return None
    width, height = rows["S_rect_02"]
    return round(height), round(width)
