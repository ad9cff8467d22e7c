"""Shows and writes what was found."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from amlr_jax.data.check.findings import CHECKS, FAULT, NOTE, WARNING, Finding
from amlr_jax.runtime.console import show

_COLOUR = {FAULT: "red", WARNING: "yellow", NOTE: "green"}
_BAR = 40  # characters of the longest


def level_of(findings: Sequence[Finding], check: str) -> str:
    """The worst of a check; "ok" where it has notes at most."""
    levels = {finding.level for finding in findings if finding.check == check}
    return next((level for level in (FAULT, WARNING) if level in levels), "ok")


def print_report(
    findings: Sequence[Finding], histogram: Sequence[tuple[str, int]]
) -> None:
    """The histogram of depth, what was found, and a line for each check."""
    if any(count for _, count in histogram):
        show(_histogram(histogram))
    for finding in findings:
        colour = _COLOUR[finding.level]
        show(f"[{colour}]{finding.level}[/{colour}] {escape(str(finding))}")
    show(_summary(findings))


def _histogram(rows: Sequence[tuple[str, int]]) -> Table:
    table = Table("metres", "share", "", title="Measured depth", title_justify="left")
    table.columns[0].justify = table.columns[1].justify = "right"
    total = sum(count for _, count in rows)
    most = max(count for _, count in rows)
    filled = [i for i, (_, count) in enumerate(rows) if count]
    for name, count in rows[filled[0] : filled[-1] + 1]:
        bar = "#" * round(_BAR * count / most)
        table.add_row(name, f"{count / total:.1%}", bar)
    return table


def _summary(findings: Sequence[Finding]) -> Table:
    table = Table("check", "result", "faults", "warnings", "of")
    for check, meaning in CHECKS.items():
        level = level_of(findings, check)
        colour = _COLOUR.get(level, "green")
        own = [f.level for f in findings if f.check == check]
        counts = (str(own.count(FAULT)), str(own.count(WARNING)))
        table.add_row(check, f"[{colour}]{level}[/{colour}]", *counts, meaning)
    return table


def write_json(
    path: Path,
    findings: Sequence[Finding],
    histogram: Sequence[tuple[str, int]],
    *,
    data: dict,
) -> None:
    """Everything, with the full lists of names."""
    checks = {
        check: {
            "result": level_of(findings, check),
            "findings": [
                {"level": f.level, "text": f.text, "names": list(f.names)}
                for f in findings
                if f.check == check
            ],
        }
        for check in CHECKS
    }
    content = {
        "data": data,
        "faults": sum(finding.level == FAULT for finding in findings),
        "warnings": sum(finding.level == WARNING for finding in findings),
        "checks": checks,
        "depth_histogram": [
            {"metres": name, "pixels": count} for name, count in histogram
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
