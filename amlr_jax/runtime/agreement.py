"""What the first process finds about files, told to all."""

import itertools
import json
from typing import Any

from amlr_jax.runtime import distributed

HOUR = 3600.0  # reading all checkpoints may take long, and is no sign of a dead process
_asked = itertools.count()


def of_first(value: Any) -> Any:
    """The first process's `value`, of what JSON can hold; others' are not looked at.

    All processes call it equally often, from the thread that runs the steps.
    """
    name = f"checkpoints {next(_asked)}"
    return json.loads(distributed.from_first(name, json.dumps(value), seconds=HOUR))
