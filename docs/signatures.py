"""griffe, for mkdocstrings: docstrings of compiled modules without the signature that Cython puts in front.

The signature shown is that of the stub, with its types; the words are the docstring's in the .pyx. A read-only field
of a Cython class can have none there: it stands in the class's.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

KINDS = (int, str, bytes, bool, float, tuple, list, dict, set, frozenset)
OF_VALUES = {inspect.getdoc(kind) for kind in KINDS}
ROLE = re.compile(r":(?:meth|func|class|data|mod|attr|c:type):`~?([^`]+)`")
EMBEDDED = re.compile(r"(?:\w+\.)*\w+\(.*\)(?: *-> *[^\n]+)?\n*")


class Signatures(griffe.Extension):  # type: ignore[misc]
    """Takes the embedded signature off."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """When everything is loaded and the stubs are merged."""
        self._walk(pkg)

    def _walk(self, thing: griffe.Module | griffe.Class) -> None:
        for member in thing.members.values():
            if member.is_alias:
                continue
            docstring = member.docstring
            if docstring is not None:
                text = ROLE.sub(r"`\1`", without_signature(docstring.value))
                if text and inspect.cleandoc(text) not in OF_VALUES:  # a constant has that of its type
                    docstring.value = text
                else:
                    member.docstring = None
            if member.is_module or member.is_class:
                self._walk(member)


def without_signature(text: str) -> str:
    """The docstring alone.

    >>> without_signature("Ring.peek(n)\\n\\nBytes at the front.")
    'Bytes at the front.'
    """
    return EMBEDDED.sub("", text, count=1).strip() if EMBEDDED.match(text) else text
