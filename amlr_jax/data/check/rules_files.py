"""Rules on counts and files: what is there, and whether it can be read."""

from amlr_jax.data import nyu, splits
from amlr_jax.data.check.facts import DAMAGED, MISSING, SIZE, Facts, Problem
from amlr_jax.data.check.findings import FAULT, NOTE, WARNING, Examined, Finding

# KITTI's depth devkit has 85,898 and 6,852 frames of two cameras.
BENCHMARK = {"train": 42949, "test": 3426}
_PARTS = ("train", "test")
_READING = {
    MISSING: "missing",
    DAMAGED: "damaged",
    "empty": "empty, 0 bytes",
    "web page": "a web page saved under the file's name",
    "Git LFS pointer": "a Git LFS pointer; fetch the file itself",
}


def counts(examined: Examined) -> list[Finding]:
    """Frames with both files, against the published numbers where there are any."""
    found = {part: _whole(examined.part(part)) for part in examined.parts}
    names = {"train": "training"}
    text = " and ".join(f"{n} {names.get(part, part)}" for part, n in found.items())
    text = f"{text} frames" if text else "no test frame, nothing to measure"
    groups = sum(_whole(facts) > 0 for facts in examined.groups().values())
    text += f" in {groups} drives or scenes" if groups > 1 else ""
    findings = [Finding("counts", NOTE, text)]
    for part in examined.parts:
        if not examined.part(part):
            findings.append(Finding("counts", FAULT, f"no {part} frame at all"))
    wanted, level = _published(examined.layout.name, examined.layout.split)
    short = tuple(
        f"{part} {found[part]} of {wanted[part]}"
        for part in wanted
        if part in found and found[part] != wanted[part]
    )
    if short:
        drives = tuple(_short_drives(examined))
        text = (
            f"not the published numbers of data.split={examined.layout.split} "
            f"({'; '.join(short)}); a partial copy is --config.data.split=folder"
        )
        findings.append(Finding("counts", level, text, drives))
    return findings


def _whole(facts: list[Facts]) -> int:
    return sum(not (f.lacks("image") or f.lacks("ground truth")) for f in facts)


def _published(name: str, split: str) -> tuple[dict[str, int], str]:
    """The numbers of a split by name, and how bad another number is."""
    if name == "kitti" and split in ("eigen", "eigen_697"):
        train, test = splits.kitti_split(split)
        sizes = [sum(map(len, part.values())) for part in (train, test)]
        return dict(zip(_PARTS, sizes, strict=True)), FAULT
    if name == "kitti" and split == "benchmark":
        return BENCHMARK, WARNING
    if name == "nyu" and split == "official":
        return dict(nyu.SIZES), FAULT
    return {}, NOTE


def _short_drives(examined: Examined):
    for group, facts in examined.groups().items():
        whole = _whole(facts)
        if whole < len(facts):
            yield f"{group} has {whole} of {len(facts)}"


def files(examined: Examined) -> list[Finding]:
    """Files that are missing, damaged or something else than they should be."""
    findings = []
    for role in ("image", "ground truth"):
        found: dict[tuple[str, str], list[Problem]] = {}
        for fact in examined.facts:
            level = examined.level_of_damage(fact)
            for problem in fact.problems:
                if problem.role == role and problem.kind not in (MISSING, SIZE):
                    found.setdefault((problem.kind, level), []).append(problem)
        findings += [_finding(role, *key, alike) for key, alike in found.items()]
        names = tuple(_missing(examined, role))
        if names:
            count = sum(fact.lacks(role) for fact in examined.facts)
            text = f"{role} of {count} of {len(examined.facts)} frames missing"
            findings.append(Finding("files", FAULT, text, names))
    return findings


def _finding(role: str, kind: str, level: str, problems: list[Problem]) -> Finding:
    """Files with the same fault; the reader's words where they add to the name."""
    what = _READING.get(kind, kind)
    plain = kind in _READING and kind != DAMAGED
    names = tuple(p.file if plain else p.text for p in problems)
    one = len(problems) == 1
    text = f"{len(problems)} {role} file{'' if one else 's'} {'is' if one else 'are'} "
    return Finding("files", level, text + what, names)


def _missing(examined: Examined, role: str):
    """A line for a whole drive or scene, else one for each file."""
    for group, facts in examined.groups().items():
        lost = [fact for fact in facts if fact.lacks(role)]
        if len(lost) > 1 and len(lost) == len(facts):
            yield f"all {len(lost)} of {group}"
        else:
            yield from (
                problem.file
                for fact in lost
                for problem in fact.problems
                if problem.role == role
            )
