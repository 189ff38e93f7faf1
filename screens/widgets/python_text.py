"""What an editor has to know of Python: colours, whether a statement is complete, how far to indent."""

from __future__ import annotations

import ast
import codeop
import re
import warnings
from functools import lru_cache
from typing import Literal

from rich.style import Style

__all__ = ["SYNTAX_STYLES", "highlights", "indentation", "verdict"]

# By the names that `highlights` gives; legible on dark and on light, also in 256 colours.
SYNTAX_STYLES = {
    "keyword": Style(color="#d787d7", bold=True),
    "string": Style(color="#87af5f"),
    "number": Style(color="#d7875f"),
    "comment": Style(color="#8a8a8a", italic=True),
    "function": Style(color="#5fafd7"),
    "builtin": Style(color="#5fafaf"),
    "decorator": Style(color="#d7af5f"),
    "operator": Style(color="#af87af"),
    "error": Style(color="#ff5f5f", underline=True),
}
_COMPOUND = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
_LEAVES_BLOCK = re.compile(r"\s*(return|pass|break|continue|raise)\b")


@lru_cache(maxsize=64)
def highlights(source: str) -> dict[int, list[tuple[int, int | None, str]]]:
    """Coloured spans of a source text.

    Parameters
    ----------
    source : str
        Python, finished or not.

    Returns
    -------
    dict
        For each row (from 0) its spans: first byte, byte after the last (UTF-8), name in `SYNTAX_STYLES`.
    """
    from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]
    from pygments.token import Token  # type: ignore[import-untyped]

    names = (
        (Token.Literal.String, "string"),
        (Token.Literal.Number, "number"),
        (Token.Comment, "comment"),
        (Token.Operator.Word, "keyword"),
        (Token.Operator, "operator"),
        (Token.Keyword, "keyword"),
        (Token.Name.Builtin, "builtin"),
        (Token.Name.Decorator, "decorator"),
        (Token.Name.Function, "function"),
        (Token.Name.Class, "function"),
        (Token.Name.Exception, "builtin"),
        (Token.Error, "error"),
    )
    spans: dict[int, list[tuple[int, int | None, str]]] = {}
    row = column = 0
    # The lexer must not strip or add lines: its tokens are counted.
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        name = next((name for token, name in names if kind in token), None)
        for number, part in enumerate(text.split("\n")):
            if number:
                row, column = row + 1, 0
            length = len(part.encode())
            if name is not None and length:
                line = spans.setdefault(row, [])
                if line and line[-1][1:] == (column, name):
                    line[-1] = (line[-1][0], column + length, name)
                else:
                    line.append((column, column + length, name))
            column += length
    return spans


def verdict(source: str) -> Literal["complete", "incomplete", "wrong"]:
    """Say whether Enter at the end of `source` should run it.

    A compound statement of several lines is complete after an empty line, everything else as soon as it compiles;
    what can't become valid is ``"wrong"`` (and is best run, for its error).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if codeop.compile_command(source.rstrip(" \t"), "<console>", "exec") is None:
                return "incomplete"
            body = ast.parse(source).body
        except (SyntaxError, OverflowError, ValueError):
            return "wrong"
    lines = source.split("\n")
    if len(lines) > 1 and lines[-1].strip() and body and isinstance(body[-1], _COMPOUND):
        return "incomplete"
    return "complete"


def indentation(line: str) -> str:
    """The spaces that the line after `line` begins with."""
    spaces = line[: len(line) - len(line.lstrip(" "))]
    if line.rstrip().endswith(":"):
        return spaces + "    "
    if _LEAVES_BLOCK.match(line):
        return spaces[:-4]
    return spaces
