"""The one exception that a command turns into a line of text and exit status 1."""


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
