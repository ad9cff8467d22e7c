"""What self-supervision would train on: views, their cameras and partners."""

from collections import Counter
from collections.abc import Iterable

from amlr_jax.data.check.findings import FAULT, NOTE, Finding
from amlr_jax.data.frames import Frame, Sequences, View
from amlr_jax.data.views.index import check_views, read_views
from amlr_jax.runtime.errors import InputError


def views(data, tested: Iterable[Frame]) -> list[Finding]:
    """The views that `config.data` names: how many, of which drives, what is left out.

    Cameras, and with data.stereo the partners, are checked as training does.
    """
    try:
        found = read_views(data, tuple(tested))
    except InputError as error:
        return [Finding("layout", FAULT, f"training would stop: {error}")]
    findings = [_count(data, found)]
    findings += [Finding("leak", NOTE, note) for note in found.notes]
    findings.append(_cameras(data, found.train))
    lost = tuple(view.key for view in found.train if view.partner is None)
    if lost:
        text = f"{len(lost)} of {len(found.train)} views have no image of the other "
        level, why = (FAULT, "data.stereo") if data.stereo else (NOTE, "no stereo")
        findings.append(Finding("files", level, f"{text}camera ({why})", lost))
    try:
        check_views(found.train, stereo=False, camera=data.camera)
    except InputError as error:
        findings.append(Finding("intrinsics", FAULT, str(error)))
    return findings


def _count(data, found: Sequences) -> Finding:
    drives = Counter(_drive(view) for view in found.train)
    sources = ", ".join(f"{offset:+d}" for offset in found.offsets)
    text = f"{len(found.train)} views to train on (sources {sources}) in "
    text += f"drives: {len(drives)}, by {data.list or 'every drive not of the test'}"
    names = tuple(f"{drive} {count}" for drive, count in sorted(drives.items()))
    return Finding("counts", NOTE, text, names)


def _cameras(data, train: Iterable[View]) -> Finding:
    if data.camera == "monodepth2":
        text = "one camera for all views, monodepth2's (data.camera)"
        return Finding("intrinsics", NOTE, text)
    seen = Counter(view.intrinsics for view in train)
    names = tuple(
        "fx {:g}, fy {:g}, cx {:g}, cy {:g}".format(*camera) + f" of {count} views"
        for camera, count in seen.items()
    )
    return Finding("intrinsics", NOTE, f"cameras of the views: {len(seen)}", names)


def _drive(view: View) -> str:
    return view.key.rpartition("/")[0]
