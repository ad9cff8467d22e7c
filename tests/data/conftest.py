"""What tests of several data sets share."""

from contextlib import contextmanager

import pytest

from amlr_jax.data.prepared import shards


class Counter:
    """Stands for the progress bar."""

    def __init__(self):
        self.steps = 0

    @contextmanager
    def __call__(self, title, total):
        self.total = total
        yield self

    def advance(self, steps=1):
        self.steps += steps


@pytest.fixture
def counter(monkeypatch):
    """The bar of all preparation."""
    made = Counter()
    monkeypatch.setattr(shards, "bar", made)
    return made
