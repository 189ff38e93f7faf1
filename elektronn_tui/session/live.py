"""Complete names and attributes of live objects, without running a line of their code.

Nothing is evaluated but lookups in dictionaries: no property, no ``__getattr__``, no ``__dir__`` of anybody's own.
"""

from __future__ import annotations

import builtins
import inspect
import keyword
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any

from .protocol import Completion, Completions

__all__ = ["complete_live"]

MAX_ITEMS = 300
_NOTHING = object()
_KEY = r"""\[\s*(?:"[^"\\]*"|'[^'\\]*'|-?\d+)\s*\]"""
_PATH = re.compile(rf"(?:^|[^\w.\])'\"])((?:[^\W\d]\w*)(?:\.[^\W\d]\w*|{_KEY})*\.)?([^\W\d]\w*)?$")
_OPEN_KEY = re.compile(rf"""(?:^|[^\w.\])'"])((?:[^\W\d]\w*)(?:\.[^\W\d]\w*|{_KEY})*)\[(["'])([^"'\\]*)$""")
_STEP = re.compile(rf"\.?([^\W\d]\w*)|({_KEY})")
# torch.nn.Module answers for these by __getattr__, which is code; the dictionaries behind it are not.
_REGISTRIES = ("_modules", "_parameters", "_buffers")


def complete_live(code: str, line: int, column: int, namespace: Mapping[str, Any]) -> Completions:
    """Return proposals for the name, attribute or key before a cursor.

    Parameters
    ----------
    code
        What was written so far.
    line, column
        The cursor, both from 0.
    namespace
        The console's names.
    """
    lines = code.split("\n")
    if not 0 <= line < len(lines):
        return Completions(start=column)
    text = lines[line][:column]
    match = _OPEN_KEY.search(text)
    if match is not None:
        path, quote, prefix = match.groups()
        return Completions(start=column - len(prefix), items=_keys(_resolve(path, namespace), prefix, quote))
    match = _PATH.search(text)
    if match is None:
        return Completions(start=column)
    path, prefix = match.group(1), match.group(2) or ""
    start = column - len(prefix)
    if path is None:
        if not prefix and text.strip():
            return Completions(start=start)
        return Completions(start=start, items=_names(prefix, namespace))
    owner = _resolve(path[:-1], namespace)
    if owner is _NOTHING:
        return Completions(start=start)
    return Completions(start=start, items=_attributes(owner, prefix))


def _names(prefix: str, namespace: Mapping[str, Any]) -> tuple[Completion, ...]:
    own = [name for name in list(namespace) if name.startswith(prefix)]
    found = [
        Completion(name=name, kind=_kind(namespace.get(name)), detail=_detail(namespace.get(name)))
        for name in _sorted(own, prefix)
    ]
    if prefix:
        others = [name for name in dir(builtins) if name.startswith(prefix) and name not in namespace]
        found += [Completion(name=name, kind=_kind(getattr(builtins, name))) for name in _sorted(others, prefix)]
        found += [Completion(name=word, kind="keyword") for word in keyword.kwlist if word.startswith(prefix)]
    return tuple(found[:MAX_ITEMS])


def _attributes(owner: Any, prefix: str) -> tuple[Completion, ...]:
    names = _sorted({name for name in _attribute_names(owner) if name.startswith(prefix)}, prefix)[:MAX_ITEMS]
    return tuple(_attribute(owner, name) for name in names)


def _attribute(owner: Any, name: str) -> Completion:
    value = _static(owner, name)
    if isinstance(value, property) or (inspect.isdatadescriptor(value) and not inspect.isroutine(value)):
        return Completion(name=name, kind="property")
    return Completion(name=name, kind=_kind(value), detail=_detail(value))


def _keys(owner: Any, prefix: str, quote: str) -> tuple[Completion, ...]:
    mapping = _mapping(owner)
    keys = [key for key in list(mapping) if isinstance(key, str) and key.startswith(prefix)]
    return tuple(Completion(name=key, kind="key", detail=_detail(mapping.get(key))) for key in keys[:MAX_ITEMS])


def _sorted(names: Iterable[str], prefix: str) -> list[str]:
    hidden = not prefix.startswith("_")
    return sorted((name for name in names if isinstance(name, str)), key=lambda n: (hidden and n.startswith("_"), n))


def _instance_dict(owner: Any) -> dict[str, Any]:
    try:
        found = object.__getattribute__(owner, "__dict__")
    except (AttributeError, TypeError):
        return {}
    return found if type(found) is dict else dict(found) if isinstance(found, types.MappingProxyType) else {}


def _attribute_names(owner: Any) -> set[str]:
    instance = _instance_dict(owner)
    names = {*instance}
    for registry in _REGISTRIES:
        if isinstance(instance.get(registry), dict):
            names.update(key for key in list(instance[registry]) if isinstance(key, str) and key.isidentifier())
    classes = type.__dict__["__mro__"].__get__(owner) if isinstance(owner, type) else ()
    for cls in (*classes, *type.__dict__["__mro__"].__get__(type(owner))):
        if not (isinstance(owner, types.ModuleType) and cls is object):
            names.update(type.__dict__["__dict__"].__get__(cls))
    return names


def _static(owner: Any, name: str) -> Any:
    instance = _instance_dict(owner)
    for registry in _REGISTRIES:
        held = instance.get(registry)
        if isinstance(held, dict) and name in held:
            return held[name]
    if isinstance(owner, types.ModuleType):
        return instance.get(name, _NOTHING)
    return inspect.getattr_static(owner, name, _NOTHING)


def _resolve(path: str, namespace: Mapping[str, Any]) -> Any:
    value: Any = _NOTHING
    for index, match in enumerate(_STEP.finditer(path)):
        name, key = match.groups()
        if index == 0:
            value = namespace.get(name, getattr(builtins, name, _NOTHING))
        elif name is not None:
            value = _static(value, name)
            if inspect.isdatadescriptor(value) and not isinstance(value, type):
                return _NOTHING  # what a property or a slot holds is known only by running it
        else:
            value = _item(value, key[1:-1].strip())
        if value is _NOTHING:
            return _NOTHING
    return value


def _mapping(owner: Any) -> Mapping[Any, Any]:
    if isinstance(owner, dict):
        return owner
    nodes = _instance_dict(owner).get("nodes") if owner is not _NOTHING else None
    return nodes if isinstance(nodes, dict) else {}  # a Model is indexed by its nodes' names


def _item(owner: Any, text: str) -> Any:
    if text[:1] in "\"'":
        return _mapping(owner).get(text[1:-1], _NOTHING)
    number = int(text)
    if type(owner) in (list, tuple) and -len(owner) <= number < len(owner):
        return owner[number]
    modules = _instance_dict(owner).get("_modules")
    if isinstance(modules, dict):
        return modules.get(str(number), _NOTHING)
    return owner.get(number, _NOTHING) if type(owner) is dict else _NOTHING


def _kind(value: Any) -> str:
    if isinstance(value, types.ModuleType):
        return "module"
    if isinstance(value, type):
        return "class"
    if isinstance(value, (staticmethod, classmethod)) or inspect.isroutine(value):
        return "function"
    return "instance"


def _detail(value: Any) -> str:
    if value is _NOTHING or value is None or _kind(value) != "instance":
        return ""
    return type(value).__name__
