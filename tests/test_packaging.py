"""The package as it is laid out: lists, links and what an import costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {"elektronn_tui": "elektronn_tui", "models": "elektronn_tui.models", "data": "elektronn_tui.data",
             "screens": "elektronn_tui.screens"}  # fmt: skip


def packages_on_disk() -> set[str]:
    found = set()
    for folder, package in TOP_LEVEL.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inside = init.parent.relative_to(ROOT / folder)
            if not any((ROOT / folder / part).is_symlink() for part in [inside, *inside.parents]):
                found.add(".".join([package, *inside.parts]))
    return found


def test_every_package_is_listed_for_installation():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == packages_on_disk()
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("name", ["models", "data", "screens"])
def test_links_for_static_tools_point_to_the_packages(name):
    link = ROOT / "elektronn_tui" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name
    assert not Path(link.readlink()).is_absolute()


def test_every_stylesheet_is_packaged():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packaged = {
        path.resolve()
        for package, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / next(f for f, p in TOP_LEVEL.items() if p == package)).glob(pattern)
    }
    assert packaged.issuperset(path.resolve() for path in ROOT.glob("screens/**/*.tcss"))


@pytest.mark.parametrize("name", ["models", "data", "screens"])
def test_no_top_level_package_of_a_common_name(name):
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    assert subprocess.run([sys.executable, "-P", "-c", code], cwd="/", check=False).returncode == 0


HEAVY = {"torch", "numba", "h5py", "skimage", "jedi", "scipy"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("elektronn_tui", HEAVY | {"textual", "numpy", "msgspec"}),
        ("elektronn_tui.cli", HEAVY | {"textual", "numpy", "asyncio"}),
        ("elektronn_tui.app", HEAVY | {"numpy"}),
        ("elektronn_tui.screens.home", HEAVY | {"numpy"}),
        ("elektronn_tui.screens.session", HEAVY | {"numpy"}),
        ("elektronn_tui.session.client", HEAVY | {"textual", "numpy"}),
        ("elektronn_tui.session.registry", HEAVY | {"textual", "numpy", "asyncio"}),
        ("elektronn_tui.session.launch", HEAVY | {"textual", "numpy"}),
        ("elektronn_tui.training.controls", HEAVY | {"textual"}),
        ("elektronn_tui.training.schedules", HEAVY | {"textual", "numpy"}),
        ("elektronn_tui.training.history", {"torch", "numba", "h5py", "skimage", "textual"}),
    ],
)
def test_import_brings_nothing_heavy(module, forbidden):
    code = f"import sys, {module}; print(*(sys.modules.keys() & {forbidden!r}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []
