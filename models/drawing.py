"""A network as a picture, a page, a text or a description for Graphviz, by the ending of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from elektronn_tui.errors import ModelError

from .drawing_facts import Facts, facts_of
from .drawing_html import html_of
from .drawing_svg import svg_of
from .drawing_text import text_of
from .storage import write_atomically

if TYPE_CHECKING:
    from .model import Model

__all__ = ["FORMATS", "draw_graph"]


def dot_of(facts: Facts) -> str:
    """Return the graph in the language of Graphviz."""
    lines = [f"digraph {_quoted(facts.name)} {{", '  node [shape=box, fontname="sans-serif"];']
    for node in facts.nodes:
        label = "\\n".join(_escaped(text) for text in (node.title, *node.lines))
        lines.append(f'  {_quoted(node.name)} [label="{label}"];')
    lines += [f"  {_quoted(parent)} -> {_quoted(node.name)};" for node in facts.nodes for parent in node.parents]
    lines += [
        f"  {_quoted(one.new)} -> {_quoted(one.old)} "
        f"[label={_quoted(one.label)}, color=red, fontcolor=red, style=dashed, constraint=false];"
        for one in facts.feedback
    ]
    return "\n".join([*lines, "}", ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


FORMATS: Mapping[str, Callable[[Facts], str]] = MappingProxyType(
    {".svg": svg_of, ".html": html_of, ".dot": dot_of, ".txt": lambda facts: text_of(facts) + "\n"}
)
"""Endings of files, and what makes their content."""


def draw_graph(model: Model, path: str | Path, *, name: str | None = None) -> Path:
    """Draw a network into a file, which is replaced if it exists.

    Parameters
    ----------
    model : Model
    path : str or Path
        ``.svg``: a layered drawing; ``.html``: the same as a page by itself, to zoom, search and look at each node;
        ``.dot``: for Graphviz; ``.txt``: 80 columns.
    name : str, optional
        What stands above it; default: the model's name.

    Returns
    -------
    Path

    Raises
    ------
    ModelError
        The ending is another one, or the file can't be written.
    """
    path = Path(path).expanduser()
    make = FORMATS.get(path.suffix.lower())
    if make is None:
        raise ModelError(f"{path}: a drawing ends with {', '.join(FORMATS)}, not with {path.suffix or 'nothing'!r}.")
    write_atomically(path, make(facts_of(model, name)).encode())
    return path
