"""Errors of the user, and the exit status that asks for another start."""

import difflib
from collections.abc import Iterable

# Exit status that asks for the same command again (EX_TEMPFAIL): a signal stopped the
# run, or another of its processes was lost. Launch scripts requeue on it.
REQUEUE = 75
# A new process imports the script that started it.
MAIN_GUARD = (
    'put it below `if __name__ == "__main__":`, which worker processes do not run, or '
    "set data.workers=0"
)


class InputError(ValueError):
    """A path, file, key or value of the user cannot be used.

    The message gives name, rule and value, and what to do. Commands print it without a
    traceback; any other exception is a bug.
    """


def counted(number: int, words: str) -> str:
    """A number with the words for one or for several things.

    >>> counted(1, "frame is|frames are"), counted(1200, "frame is|frames are")
    ('1 frame is', '1,200 frames are')
    """
    one, _, several = words.partition("|")
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def preview(names, *, limit: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    names = list(map(str, names))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" for the known name that is meant, or an empty text.

    Dotted names are compared by their last part: the same part of another section is
    what is meant, then a similar part of the same section, then of any section.

    >>> did_you_mean("optimizer.batch_size", ["batch_size", "optimizer.peak"])
    '; did you mean batch_size?'
    """
    (section, _, last), known = name.rpartition("."), list(known)
    lasts = {one: one.rpartition(".")[2] for one in known}
    beside = [one for one in known if one.rpartition(".")[0] == section]
    found = [one for one in known if lasts[one] == last]
    for some, cutoff in ((beside, 0.6), (known, 0.8)):
        if not found:
            parts = [lasts[one] for one in some]
            near = difflib.get_close_matches(last, parts, n=1, cutoff=cutoff)
            found = [one for one in some if lasts[one] in near]
    return f"; did you mean {' or '.join(found[:3])}?" if found else ""


def require(key: str, value: str, known: Iterable[str]) -> None:
    """Raises InputError, with the nearest known value, if `value` is not known."""
    known = list(known)
    if value not in known:
        hint = did_you_mean(value, known)
        raise InputError(
            f"{key} must be one of {', '.join(known)}; got '{value}'{hint}"
        )
