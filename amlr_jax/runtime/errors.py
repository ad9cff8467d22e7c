"""How a command ends: a line of text and status 1, or a status that asks for more."""

# Exit status that asks for the same command again (EX_TEMPFAIL): a run was told to stop
# or lost another of its processes. Launch scripts requeue on it.
REQUEUE = 75


class InputError(ValueError):
    """What the user gave cannot be used: a path, a file, a key or a value.

    The message names the thing, the rule and the value, and what to do. Commands
    print it without a traceback; any other exception is a fault of ours.
    """


def preview(names, *, limit: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    names = list(map(str, names))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
