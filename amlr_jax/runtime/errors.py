"""Errors of the user, and the exit status that asks for another start."""

import difflib
from collections.abc import Iterable

# Exit status that asks for the same command again (EX_TEMPFAIL): a signal stopped the
# run, or another of its processes was lost. Launch scripts requeue on it.
REQUEUE = 75


class InputError(ValueError):
    """A path, file, key or value of the user cannot be used.

    The message gives name, rule and value, and what to do. Commands print it without a
    traceback; any other exception is a bug.
    """


def preview(names, *, limit: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    names = list(map(str, names))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def require(key: str, value: str, known: Iterable[str]) -> None:
    """Raises InputError, with the nearest known value, if `value` is not known."""
    known = list(known)
    if value in known:
        return
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"{key} must be one of {', '.join(known)}; got '{value}'{hint}")
