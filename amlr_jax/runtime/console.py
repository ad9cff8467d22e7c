"""Terminal output: results, and the progress bar of all long work."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# A table of nine metrics needs these columns; rich cuts numbers in a narrower one.
TABLE_WIDTH = 110


class Unfailing:
    """`sys.stdout` or `sys.stderr` for writing that never raises.

    Characters that the stream cannot encode become `?`. A stream whose reader is gone,
    as after `| head -1` or a lost connection, is connected to nothing, so that neither
    a later line nor Python's exit fails. Other errors, as of a full disk, lose a line.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        """Writes what can be written; returns the length of `text`."""
        stream = self._stream()
        try:
            stream.write(text)
        except UnicodeEncodeError:
            known = text.encode(stream.encoding, "replace")
            self.write(known.decode(stream.encoding))
        except (OSError, ValueError, AttributeError) as error:
            self._lost(stream, error)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, if it still exists."""
        stream = self._stream()
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError) as error:
            self._lost(stream, error)

    def _stream(self) -> Any:
        # While a bar runs on a terminal, rich replaces the stream by a proxy.
        stream = getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)

    def _lost(self, stream: Any, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno != errno.ENOSPC:
            with suppress(OSError, ValueError, AttributeError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)

    def __getattr__(self, name: str) -> Any:
        if name == "rich_proxied_file":
            raise AttributeError(name)
        return getattr(self._stream(), name)


# Results go to stdout, progress goes to stderr.
console = Console(file=Unfailing("stdout"), highlight=False)  # type: ignore[arg-type]
console.width = max(console.width, TABLE_WIDTH)
watcher = Console(file=Unfailing("stderr"), highlight=False)  # type: ignore[arg-type]


def show(*things) -> None:
    """Prints results; above a running bar if both are on one wide terminal.

    Lines of text are not wrapped, so paths in a log file stay whole.
    """
    one = console.is_terminal and watcher.is_terminal and watcher.width >= TABLE_WIDTH
    for thing in things:
        chosen = watcher if one else console
        chosen.print(thing, soft_wrap=isinstance(thing, str))


def mute() -> None:
    """Prints nothing from now on, as in all ranks but 0."""
    console.quiet = watcher.quiet = True


PLAIN_SECONDS = 30.0  # between lines where there is no terminal to redraw


class Speed(ProgressColumn):
    """Steps per second over about the last minute."""

    def render(self, task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.2f}/s")


class Bar:
    """A progress bar; `advance` moves it and may replace the note at its right.

    In a log file, where a bar cannot be redrawn, it prints a line now and then.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._printed = time.monotonic()

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        """Counts `steps` more as done."""
        self._progress.update(self._task, advance=steps)
        if note is not None:
            self._progress.update(self._task, note=note)
        now = time.monotonic()
        if not watcher.is_terminal and now - self._printed > PLAIN_SECONDS:
            self._printed = now
            task = self._progress.tasks[self._task]
            speed = "" if task.speed is None else f" {task.speed:.2f}/s"
            done = f"{task.completed:g}/{task.total:g}"
            watcher.print(f"{task.description} {done}{speed} {task.fields['note']}")


@contextmanager
def bar(title: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """Shows `title`, a bar, done/total, speed, elapsed time, ETA and a note."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Speed(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(
        *columns, console=watcher, refresh_per_second=4, speed_estimate_period=60.0
    ) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")
        yield Bar(progress, task)
