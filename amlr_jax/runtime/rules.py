"""Rules of configuration values: type and range, and the text that states them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from amlr_jax.runtime.errors import InputError, did_you_mean

AUTO = "auto"  # the value of a key that is chosen by device, disk or cores


class Rule(NamedTuple):
    """What a value must be."""

    text: str  # completes "KEY must be"
    holds: Callable[[Any], bool]
    type: type = object  # of the values, for a key whose default is None
    known: tuple[str, ...] = ()  # all values, of a rule that lists them


def apply(key: str, value: Any, rule: Rule) -> None:
    """Raises InputError, which names the key, the rule and the value."""
    if not rule.holds(value):
        hint = did_you_mean(str(value), rule.known)
        raise InputError(f"{key} must be {rule.text}; got {value!r}{hint}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number from `least` on, or from `least` to `most`."""
    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    high = math.inf if most is None else most
    return Rule(
        f"a whole number {span}", lambda x: _is_whole(x) and least <= x <= high, int
    )


def number(interval: str) -> Rule:
    """A finite number in an interval, as "[0, 1)" or "(0, inf)".

    >>> number("[0, 1)").holds(1.0), number("(0, inf)").holds(0.5)
    (False, True)
    """
    low, high = map(float, interval[1:-1].split(","))

    def holds(value: Any) -> bool:
        if not (_is_whole(value) or isinstance(value, float)):
            return False
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        return above and below and math.isfinite(value)

    return Rule(f"a number in {interval}", holds, float)


def one_of(*known: str, empty: bool = False) -> Rule:
    """One of some names; with `empty` also the empty text."""
    text = f"one of {', '.join(known)}" + (" or empty" if empty else "")
    every = (*known, "") if empty else known
    return Rule(text, lambda x: isinstance(x, str) and x in every, str, known)


def each(rule: Rule, *counts: int, text: str = "") -> Rule:
    """A tuple or list whose values obey `rule`, of a length among `counts`."""
    lengths = " or ".join(map(str, counts)) or "any number of"
    text = text or f"a tuple of {lengths} values, each {rule.text}"

    def holds(value: Any) -> bool:
        if not isinstance(value, tuple | list) or counts and len(value) not in counts:
            return False
        return all(map(rule.holds, value))

    return Rule(text, holds, tuple)


def named(rule: Rule) -> Rule:
    """A dict from names to values that obey `rule`."""

    def holds(value: Any) -> bool:
        found = isinstance(value, Mapping) or hasattr(value, "items")
        return found and all(rule.holds(v) for _, v in value.items())

    return Rule(f"a dict of names, each with {rule.text}", holds)


def optional(rule: Rule) -> Rule:
    """None, or a value that obeys `rule`."""
    text = f"{rule.text}, or None"
    return rule._replace(text=text, holds=lambda x: x is None or rule.holds(x))


def or_auto(rule: Rule) -> Rule:
    """The text "auto", or a value that obeys `rule`."""
    text = f"auto or {rule.text}"
    return Rule(text, lambda x: isinstance(x, str) and x == AUTO or rule.holds(x))


FLAG = Rule("True or False", lambda x: isinstance(x, bool), bool)
TEXT = Rule("a text", lambda x: isinstance(x, str), str)
NOT_EMPTY = Rule(
    "a text that is not empty", lambda x: isinstance(x, str) and bool(x.strip()), str
)
