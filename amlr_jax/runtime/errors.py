"""Errors of the user, and the exit status that asks for another start."""

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
