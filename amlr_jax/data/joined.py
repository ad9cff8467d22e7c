"""Several data sets that a run trains or tests on; one is the usual number."""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from amlr_jax.data.frames import Contents


class Joined:
    """Prepared data sets by label, and their examples one after the other.

    `sets` have `train` or `test` sequences and `contents`, as `Prepared` does.
    """

    def __init__(self, sets: Mapping[str, Any]) -> None:
        self.sets = dict(sets)

    def starts(self) -> list[int]:
        """The place of the first training example of each set, and their number."""
        lengths = (len(data.train) for data in self.sets.values())
        return list(accumulate(lengths, initial=0))

    def key(self, place: int) -> str:
        """The name of a training example, after the label if there are several sets."""
        starts = self.starts()
        number = bisect_right(starts, place) - 1
        label, data = list(self.sets.items())[number]
        key = data.train[place - starts[number]]["key"]
        key = key.decode() if isinstance(key, bytes) else key
        return f"{label}:{key}" if len(self.sets) > 1 else key

    def contents(self, part: str) -> Contents:
        """The frames of "train" or "test" of all sets, as `key` names them."""
        found = {label: data.contents(part) for label, data in self.sets.items()}
        if len(found) == 1:
            return found.popitem()[1]
        names = [f"{label}:{n}" for label, one in found.items() for n in one.names]
        files = repr([one.files for one in found.values()]).encode()
        return Contents(tuple(names), hashlib.sha256(files).hexdigest()[:16])
