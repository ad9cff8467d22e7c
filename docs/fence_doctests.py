"""Shows the examples of docstrings as code on the API pages.

A docstring here ends with bare `>>>` lines, which doctest runs. Markdown would show
them as nested quotations, so this extension of griffe puts a fence around them.
"""

import re

import griffe

_EXAMPLE = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)
_BOUND = re.compile(r"^( +\w+: )>", re.MULTILINE)  # "eps: > 0" is no quotation, either


class FenceDoctests(griffe.Extension):
    """Fences every block that starts with `>>>` and ends at an empty line."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called by griffe for each module, class, function and attribute."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with its examples in fences.

    >>> print(fenced("A sum.\\n\\n>>> 1 + 1\\n2").count("```"))
    2
    """
    text = _EXAMPLE.sub(lambda found: f"```python\n{found[0].rstrip()}\n```\n", text)
    return _BOUND.sub(r"\1\>", text)
