"""The zoo as files: which examples there are, without importing any of them."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from elektronn_tui.errors import ElektronnError, ExperimentError, did_you_mean

__all__ = ["Example", "examples", "experiment_file", "experiment_name", "find_example"]


@dataclass(frozen=True)
class Example:
    """A complete experiment that comes with the package."""

    name: str
    path: Path
    summary: str  # first line of its docstring


def _folder() -> Path:
    # Looked up, not imported: importing elektronn_tui.models would import torch.
    spec = importlib.util.find_spec("elektronn_tui.models")
    if spec is None or not spec.submodule_search_locations:
        raise ElektronnError("the zoo is missing: this installation of elektronn-tui is incomplete")
    return Path(next(iter(spec.submodule_search_locations))) / "zoo"


def examples() -> dict[str, Example]:
    """Return the experiments of the zoo by name."""
    found = {}
    for path in sorted(_folder().glob("[a-z]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = Example(path.stem, path, docstring.partition("\n")[0])
    return found


def find_example(name: str) -> Example:
    """Return an experiment of the zoo.

    Raises
    ------
    ElektronnError
        There is none of that name.
    """
    known = examples()
    if name not in known:
        raise ElektronnError(
            f"the zoo has no experiment {name!r}.{did_you_mean(name, known)} It has: {', '.join(known)}"
        )
    return known[name]


def experiment_file(source: str | Path) -> Path:
    """Return the file of an experiment, given as a name in the zoo or as a path.

    Raises
    ------
    ExperimentError
        It is neither.
    """
    text = str(source)
    zoo = examples()
    if text in zoo:
        return zoo[text].path
    path = Path(source).expanduser().absolute()
    if path.is_file():
        return path
    if path.is_dir():
        raise ExperimentError(f"{path} is a folder; an experiment is a Python file")
    if "/" in text or text.endswith(".py"):
        raise ExperimentError(f"there is no experiment file {path}")
    hint = did_you_mean(text, zoo)
    raise ExperimentError(f"{text!r} is neither a file nor in the zoo.{hint} The zoo has: {', '.join(zoo)}")


def experiment_name(path: Path) -> str:
    """Return the name that an experiment file gives its `Experiment`, without running it; else the file's.

    Sessions are named before anything slow is imported.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return path.stem  # the worker will say what is wrong with it
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Experiment":
            for keyword in node.keywords:
                if keyword.arg == "name" and isinstance(keyword.value, ast.Constant) and keyword.value.value:
                    return str(keyword.value.value)
    return path.stem
