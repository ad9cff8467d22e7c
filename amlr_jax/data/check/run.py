"""The check as a whole: list, read, judge, show."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data import images, sources
from amlr_jax.data.check import (
    listing,
    report,
    rules_depth,
    rules_files,
    rules_leaks,
    rules_scale,
    rules_sizes,
    sheet,
    views,
)
from amlr_jax.data.check.facts import DAMAGED, Facts, Problem, examine, examine_example
from amlr_jax.data.check.facts import read_metres as read_frame
from amlr_jax.data.check.findings import FAULT, LEVELS, WARNING, Examined, Finding
from amlr_jax.data.check.measures import quantile
from amlr_jax.data.frames import UNKNOWN_CAMERA, Frame, Layout
from amlr_jax.data.nyu_tfds import TfdsPrepared
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError

RULES: tuple[Callable[[Examined], list[Finding]], ...] = (
    rules_files.counts,
    rules_files.files,
    rules_sizes.sizes,
    rules_depth.depth,
    rules_scale.scale,
    rules_sizes.intrinsics,
    rules_leaks.leak,
)
_AHEAD = 4  # frames in work or waiting, for each thread


class Work(NamedTuple):
    """What there is to read: frames of files, or examples of a prepared set."""

    layout: Layout
    findings: tuple[Finding, ...]
    jobs: list[tuple[str, object]]  # part, and a frame or (examples, index)


def check(
    data,
    *,
    max_depth: float,
    video: bool = False,
    output: Path | None = None,
    progress: Callable = bar,
) -> list[Finding]:
    """Checks what `config.data` names and shows it; the findings, faults first.

    With `video` the training frames are views, without depth (self-supervision).

    With `output` also writes check.json and check.png there, which must be outside of
    the data set. `max_depth` in metres is the network's. Raises InputError for a
    mistake in the config, and where there is nothing to check.
    """
    if len(data.crop) != 2:
        raise InputError(f"data.crop must be (height, width), got {tuple(data.crop)}")
    chosen = _video(data, progress) if video else _chosen(data, progress)
    prepare_output(output, data)
    with progress(f"Checking {data.name}", len(chosen.jobs)) as shown:
        facts = tuple(_read_all(chosen, shown.advance))
    examined = Examined(chosen.layout, facts, data, max_depth)
    rules = RULES if chosen.jobs else RULES[:1]  # without a test there is but video
    findings = [*chosen.findings, *(f for rule in rules for f in rule(examined))]
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    histogram = rules_depth.histogram(examined)
    report.print_report(findings[::-1], histogram)
    if output is not None:
        try:
            _write(output, chosen, examined, findings, histogram)
        except OSError as error:
            raise _cannot_write(output, error) from error
    _conclude(findings, output)
    return findings


def prepare_output(output: Path | None, data) -> None:
    """Makes the folder; InputError if it cannot be, or is part of the data set."""
    if output is None:
        return
    if output.resolve().is_relative_to(Path(data.root).resolve()):
        raise InputError(
            f"--output '{output}' must not be in data.root='{data.root}', which is "
            "left as it is"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "check.json").touch()
    except OSError as error:
        raise _cannot_write(output, error) from error


def _cannot_write(output: Path, error: OSError) -> InputError:
    return InputError(f"--output '{output}' cannot be written: {error.strerror}")


def _chosen(data, progress: Callable) -> Work:
    if data.name == sources.NYU_TFDS:
        return _tfds(data)
    found = listing.read(data, bar=progress)
    jobs = [("train", frame) for frame in found.layout.train]
    jobs += [("test", frame) for frame in found.layout.test]
    return Work(found.layout, found.findings, jobs)


def _video(data, progress: Callable) -> Work:
    """Views to train on, and the test frames to read, if there are any."""
    if data.name not in sources.DRIVES:
        raise InputError(
            f"self-supervision needs data.name {' or '.join(sources.DRIVES)}, got "
            f"'{data.name}'"
        )
    if data.split == sources.NO_TEST:
        layout = Layout(data.name, data.split, 1.0, (), (), test_only=True)
        return Work(layout, tuple(views.views(data, ())), [])
    tested = data.copy_and_resolve_references()
    tested.list = ""  # names views
    found = listing.read(tested, bar=progress, test_only=True)
    findings = (*found.findings, *views.views(data, found.layout.test))
    return Work(found.layout, findings, [("test", f) for f in found.layout.test])


def _tfds(data) -> Work:
    sources.check_keys(data)
    made = TfdsPrepared(Path(data.root).expanduser())
    layout = Layout(made.name, made.split, 1.0, (), (), in_metres=True)
    jobs = [
        (part, (examples, index))
        for part, examples in (("train", made.train), ("test", made.test))
        for index in range(len(examples))
    ]
    return Work(layout, (), jobs)


def _read_all(chosen: Work, advance: Callable) -> Iterator[Facts]:
    """The facts in order, by a thread a core; decoding is outside of Python's lock."""
    threads = os.cpu_count() or 1
    waiting: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part, job in chosen.jobs:
            waiting.append(pool.submit(_examine, part, job, chosen.layout))
            if len(waiting) >= _AHEAD * threads:
                yield waiting.popleft().result()
                advance()
        while waiting:
            yield waiting.popleft().result()
            advance()


def _examine(part: str, job, layout: Layout) -> Facts:
    try:
        if isinstance(job, Frame):
            return examine(job, part, layout)
        examples, index = job
        return examine_example(examples[index], part, layout)
    # What decoders raise on damaged data has no end, and none may end the check.
    except Exception as error:
        key = job.key if isinstance(job, Frame) else f"{part}/{job[1]:05d}"
        text = f"{key} cannot be read: {' '.join(str(error).split())}"
        problem = Problem(DAMAGED, "image", key, text)
        return Facts(key, part, UNKNOWN_CAMERA, (problem,))


def _write(output: Path, chosen: Work, examined: Examined, findings, histogram) -> None:
    report.write_json(
        output / "check.json", findings, histogram, data=examined.data.to_dict()
    )
    if not examined.facts:
        return
    every = [fact.measured for fact in examined.facts if fact.measured]
    near, far = (quantile(every, q) for q in (0.01, 0.99))
    if not near < far:  # no depth, or one depth
        near, far = 1.0, examined.max_depth
    there = [i for i, f in enumerate(examined.facts) if f.size or f.measured]
    there = there or [0]
    count = min(sheet.FRAMES, len(there))
    spread = np.linspace(0, len(there) - 1, count).round().astype(int)
    chosen_facts = [(there[i], examined.facts[there[i]]) for i in spread]
    tiles = [_tile(chosen.jobs[i][1], f, chosen.layout) for i, f in chosen_facts]
    sheet.write(output / "check.png", tiles, near=near, far=far)


def _tile(job, facts: Facts, layout: Layout) -> sheet.Tile:
    trouble = ", ".join(f"{p.role}: {p.kind}" for p in facts.problems)
    if not isinstance(job, Frame):
        if facts.problems:
            return sheet.Tile(facts.key, None, None, trouble)
        example = job[0][job[1]]
        return sheet.Tile(facts.key, example["image"], example["depth"][..., 0])
    image = metres = None
    if facts.size:
        data = np.frombuffer(images.read(job.image, what="image"), np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        image = None if decoded is None else decoded[..., ::-1]
    if facts.measured and facts.size and not facts.problems:
        metres = read_frame(job, layout, facts.size)
    return sheet.Tile(facts.key, image, metres, trouble)


def _conclude(findings: Iterable[Finding], output: Path | None) -> None:
    faults, warnings = (
        sum(finding.level == level for finding in findings)
        for level in (FAULT, WARNING)
    )
    text = f"{faults} faults, {warnings} warnings"
    if output is None:
        text += "; --output=DIR writes every name and a page of pictures"
    else:
        text += f"; every name in {output / 'check.json'}, frames in check.png"
    show(text)
