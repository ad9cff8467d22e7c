"""What a rule has to say about a data set, and the set as the rules see it."""

from typing import NamedTuple

from amlr_jax.data.check.facts import Facts
from amlr_jax.data.frames import Layout
from amlr_jax.data.sources import NO_TEST
from amlr_jax.runtime.errors import preview

FAULT, WARNING, NOTE = "fault", "warning", "note"
LEVELS = (FAULT, WARNING, NOTE)  # from the worst on
_NAME = 300  # characters of a name on the screen

# In the order of the summary; each with what it covers.
CHECKS = {
    "layout": "the reader that training uses",
    "counts": "frames against the published numbers",
    "files": "every file there and readable",
    "sizes": "image, depth and crop fit together",
    "depth": "range and share of what is measured",
    "scale": "the unit of depth",
    "intrinsics": "the cameras",
    "leak": "training and test are apart",
}


class Finding(NamedTuple):
    """One line of a report.

    A fault stops training or spoils its figures, a warning is a guess with its
    reason, a note is for the reader to know.
    """

    check: str  # a key of CHECKS
    level: str  # one of LEVELS
    text: str
    names: tuple[str, ...] = ()  # all of the frames, drives or files concerned

    def __str__(self) -> str:
        names = [n[:_NAME] + "..." * (len(n) > _NAME) for n in self.names]
        return f"{self.text}: {preview(names)}" if names else self.text


class Examined(NamedTuple):
    """A data set after every file was read."""

    layout: Layout  # the frames in it may be missing on disk
    facts: tuple[Facts, ...]  # of the training frames, then of the test frames
    data: object  # config.data
    max_depth: float  # metres, of the network

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that there should be: video to train on needs no depth."""
        if self.layout.test_only:
            return () if self.layout.split == NO_TEST else ("test",)
        return "train", "test"

    def part(self, name: str) -> list[Facts]:
        """The facts of "train" or "test"."""
        return [fact for fact in self.facts if fact.part == name]

    def groups(self) -> dict[str, list[Facts]]:
        """The facts of each drive or scene."""
        found: dict[str, list[Facts]] = {}
        for fact in self.facts:
            found.setdefault(fact.group, []).append(fact)
        return found

    def measured(self) -> list[Facts]:
        """The facts of the frames whose depth could be read."""
        return [fact for fact in self.facts if fact.measured]

    def level_of_damage(self, fact: Facts) -> str:
        """How bad a damaged frame is: training may be told to leave it out."""
        return WARNING if self.data.skip_bad and fact.part == "train" else FAULT

    @property
    def held_out_by_drive(self) -> bool:
        """Whether the last fifth of each drive or scene is the test, by design."""
        return self.layout.split in ("folder", "list-folder")
