"""What a person watches: one progress bar style for all long work."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Results go to stdout, what only a watcher needs goes to stderr.
# A table of nine metrics needs 110 columns; narrower, rich would cut the figures.
console = Console(highlight=False)
console.width = max(console.width, 110)
watcher = Console(stderr=True, highlight=False)


class Bar:
    """A running bar; `advance` moves it, `note` replaces the text at its right."""

    def __init__(self, progress: Progress, task) -> None:
        self._progress = progress
        self._task = task

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        fields = {} if note is None else {"note": note}
        self._progress.update(self._task, advance=steps, **fields)


@contextmanager
def bar(title: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """Shows `title`, a bar, done/total, elapsed time, ETA and a note."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=watcher, refresh_per_second=4) as progress:
        yield Bar(
            progress, progress.add_task(title, total=total, completed=done, note="")
        )
