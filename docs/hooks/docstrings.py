"""Docstrings for the documentation site: roles become links, formulas MathML, which browsers draw without a script."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe
from latex2mathml.converter import convert

_ROLE = re.compile(r":(?:func|class|meth|attr|data|mod|exc):`(~?)([\w.]+)`")
_FORMULA = re.compile(r"^( *)\.\. math::([^\n]*)\n((?:\1 +[^\n]*\n|\n)*)", re.MULTILINE)
_LITERAL = re.compile(r"``([^`]+)``")


class Docstrings(griffe.Extension):
    """Extension of griffe that rewrites docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = _as_markdown(obj.docstring.value)


def _as_markdown(text: str) -> str:
    text = _FORMULA.sub(_formula, text + "\n")
    text = _ROLE.sub(lambda found: f"`{found[2].rsplit('.', 1)[-1]}`", text)
    return _LITERAL.sub(r"`\1`", text).rstrip()


def _formula(found: re.Match[str]) -> str:
    indent, lines = found[1], textwrap.dedent(found[3]).strip()
    latex = " ".join(f"{found[2]} {lines}".split())
    return f"{indent}{convert(latex, display='block')}\n\n"
