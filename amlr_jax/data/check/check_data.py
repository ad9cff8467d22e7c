"""The whole check: list, read, judge, report."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from amlr_jax.config import DRIVES
from amlr_jax.data import sources
from amlr_jax.data.check import depth, leaks, picture, rules
from amlr_jax.data.check.facts import Examined, Example, Facts, examine, quantile, read
from amlr_jax.data.check.findings import (
    COLORS,
    FAULT,
    NOTE,
    Finding,
    print_report,
    totals,
    write_report,
)
from amlr_jax.data.frames import Frame, Layout, Problem, Sequences
from amlr_jax.data.nyu_tfds import TfdsPrepared
from amlr_jax.data.views.index import check_views, read_views
from amlr_jax.runtime import paths
from amlr_jax.runtime.cluster import cores
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError, counted
from amlr_jax.runtime.files import make_writable, refused

RULES: tuple[Callable[[Examined], list[Finding]], ...] = (
    rules.counts,
    rules.files,
    rules.sizes,
    depth.depth_range,
    depth.shared_extreme,
    depth.unit,
    rules.cameras,
    leaks.leak,
)
REPORT, PICTURE = "check.json", "check.png"


class Listed(NamedTuple):
    """The frames to read, each with its part, and the findings of the listing."""

    layout: Layout
    frames: list[tuple[str, Frame | Example]]
    findings: list[Finding]


def check(
    data: ConfigDict,
    *,
    max_depth: float,
    video: bool = False,
    output: Path | None = None,
) -> list[Finding]:
    """Checks the data of `config.data` and prints the findings; returns them.

    With `video` the training frames are views, without depth (self-supervision).

    With `output` also writes check.json and check.png there, which must be outside of
    the data set. `max_depth` in metres is the network's. Raises InputError for a
    mistake in the config, and where there is nothing to check.
    """
    listed = _list(data, video=video)
    if output is not None:
        _prepare_output(output, data)
    with bar(f"Checking {data.name}", len(listed.frames)) as shown:
        facts = _read(listed, shown.advance)
    examined = Examined(listed.layout, facts, data, max_depth)
    used = RULES if facts else RULES[:1]  # only video is without a test
    findings = listed.findings + [f for rule in used for f in rule(examined)]
    findings.sort(key=lambda finding: list(COLORS).index(finding.level))
    print_report(findings)
    if output is None:
        hint = "--output=DIR writes all names and pictures of frames"
    else:
        hint = f"all names in {output / REPORT}, frames in {PICTURE}"
        with refused(f"--output '{output}'"):
            write_report(output / REPORT, findings, data=data)
            if facts:
                _draw(output / PICTURE, listed, examined)
    show(f"{totals(findings)}; {hint}")
    return findings


def _prepare_output(output: Path, data: ConfigDict) -> None:
    """Makes the folder; InputError if it cannot be, or is part of the data set."""
    if output.resolve().is_relative_to(paths.expanded(data.root).resolve()):
        raise InputError(
            f"--output '{output}' must not be in data.root='{data.root}', which the "
            "check does not change"
        )
    make_writable(output, option="output")


def _list(data: ConfigDict, *, video: bool) -> Listed:
    sources.check_keys(data)
    if video and data.split == sources.NO_TEST:
        layout = Layout(data.name, data.split, 1.0, (), (), test_only=True)
        return Listed(layout, [], _views(data, ()))
    if data.name == sources.NYU_TFDS:
        made = TfdsPrepared(paths.expanded(data.root))
        layout = Layout(made.name, made.split, 1.0, (), (), in_metres=True)
        examples: list[tuple[str, Frame | Example]] = [
            (part, Example(f"{part}/{index:05d}", some, index))
            for part, some in (("train", made.train), ("test", made.test))
            for index in range(len(some))
        ]
        return Listed(layout, examples, [])
    asked = data.copy_and_resolve_references()
    if video:
        asked.list = ""  # names views
    problems: list[Problem] = []
    layout = sources.read_layout(asked, test_only=video, report=problems.append)
    # The first problem of missing files is enough: a rule names them all.
    kept = problems[:1] + [problem for problem in problems[1:] if not problem.missing]
    findings = [_fault(p._replace(names=()), p.names) for p in kept]
    findings += [Finding("layout", NOTE, note) for note in layout.notes]
    if video:
        findings += _views(data, layout.test)
    frames: list[tuple[str, Frame | Example]] = [("train", f) for f in layout.train]
    frames += [("test", f) for f in layout.test]
    return Listed(layout, frames, findings)


def _fault(problem: Problem | InputError, names: tuple[str, ...] = ()) -> Finding:
    return Finding("layout", FAULT, f"training would stop: {problem}", names)


def _read(listed: Listed, advance: Callable) -> tuple[Facts, ...]:
    """The facts in order, with a thread per core; decoding releases the GIL."""
    layout, frames, _ = listed
    found = []
    with ThreadPoolExecutor(cores()) as pool:
        for facts in pool.map(lambda one: examine(one[0], one[1], layout), frames):
            found.append(facts)
            advance()
    return tuple(found)


def _draw(path: Path, listed: Listed, examined: Examined) -> None:
    every = [fact.depth for fact in examined.facts if fact.depth]
    near, far = (quantile(every, q) for q in (0.01, 0.99))
    if not near < far:  # no depth, or one depth
        near, far = 1.0, examined.max_depth
    there = [i for i, f in enumerate(examined.facts) if f.size or f.depth] or [0]
    count = min(picture.FRAMES, len(there))
    tiles = []
    for place in np.linspace(0, len(there) - 1, count).round().astype(int):
        (_, frame), facts = listed.frames[there[place]], examined.facts[there[place]]
        trouble = ", ".join(f"{fault.role}: {fault.kind}" for fault in facts.faults)
        shown = read(frame, listed.layout)[:2]
        tile = picture.draw_tile(facts.key, *shown, trouble, near=near, far=far)
        tiles.append(tile)
    picture.write(path, tiles, near=near, far=far)


# ---------------------------------------------------------------- self-supervision


def _views(data: ConfigDict, tested: Sequence[Frame]) -> list[Finding]:
    """The views of `config.data`: their number, drives, and which are left out.

    Cameras, and with data.stereo the partners, are checked as in training.
    """
    try:
        found = read_views(data, tuple(tested))
    except InputError as error:
        return [_fault(error)]
    findings = [_count_views(data, found), _cameras_of_views(data, found)]
    findings += [Finding("leak", NOTE, note) for note in found.notes]
    lost = tuple(view.key for view in found.train if view.partner is None)
    if lost and data.name in DRIVES:
        text = f"{len(lost)} of {len(found.train)} views have no image of the other "
        level, why = (FAULT, "data.stereo") if data.stereo else (NOTE, "no stereo")
        findings.append(Finding("files", level, f"{text}camera ({why})", lost))
    try:
        check_views(found.train, stereo=False, camera=data.camera)
    except InputError as error:
        findings.append(Finding("intrinsics", FAULT, str(error)))
    return findings


def _count_views(data: ConfigDict, found: Sequences) -> Finding:
    drives = Counter(view.key.rpartition("/")[0] for view in found.train)
    offsets = ", ".join(f"{offset:+d}" for offset in found.offsets)
    text = f"{counted(len(found.train), 'view')} to train on (sources {offsets}) in "
    if data.name in DRIVES:
        text += (
            f"drives: {len(drives)}, by {data.list or 'every drive not of the test'}"
        )
    else:
        text += f"recordings: {len(drives)}"
    names = tuple(
        f"{drive or 'data.root'} ({count})" for drive, count in sorted(drives.items())
    )
    return Finding("counts", NOTE, text, names)


def _cameras_of_views(data: ConfigDict, found: Sequences) -> Finding:
    if data.camera == "monodepth2":
        text = "one camera for all views, monodepth2's (data.camera)"
        return Finding("intrinsics", NOTE, text)
    seen = Counter(view.intrinsics for view in found.train)
    names = tuple(
        "fx {:g}, fy {:g}, cx {:g}, cy {:g}".format(*camera)
        + f" of {counted(count, 'view')}"
        for camera, count in seen.items()
    )
    return Finding("intrinsics", NOTE, f"cameras of the views: {len(seen)}", names)
