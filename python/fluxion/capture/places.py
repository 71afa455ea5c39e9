"""Places: where a function finds its state outside of its arguments.

A place is a container and a key in it: an attribute, an item of a dict or list, a closure cell, a global. The walk
starts at the function (closure, globals it names, `self`, defaults) and at its arguments, and goes through modules,
optimizers, plain objects and containers. What a function reads in other ways (files, other modules' globals) is not
seen; `check=True` finds such cases.
"""

from __future__ import annotations

import types
from enum import Enum

from fluxion import Tensor, device, dtype
from fluxion._C import Generator
from fluxion.nn import Module
from fluxion.utils.tracked import Options, StateOfParameters, TrackedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["Place", "walk"]

SCALARS = (int, float, bool, str, bytes, complex, type(None), Enum, dtype, device)
_TRACKED = (Options, StateOfParameters, TrackedDict)
_MISSING = object()


class Place:
    """A container and a key in it. `path` names it for people: `self.fc1.weight`.

    A list or dict that lies in another place is found through that place, so that it may be replaced by another one;
    everything else is held.
    """

    __slots__ = ("_container", "id", "key", "kind", "parent", "path", "tracked")

    def __init__(
        self,
        container: Any,
        kind: str,
        key: Any,
        path: str,
        parent: Place | None = None,
        tracked: frozenset | set = frozenset(),
    ) -> None:
        self._container = None if parent else container  # held: ids stay unique
        self.parent = parent
        self.kind = kind  # "item" of a dict or list, "cell" of a closure
        self.tracked = (
            type(container) in _TRACKED or id(container) in tracked
        )  # changes bump the epoch
        self.key = key
        self.path = path
        self.id = (
            parent.id if parent else id(container),
            id(key) if isinstance(key, Tensor) else key,
        )

    @property
    def container(self) -> Any:
        return self.parent.get() if self.parent else self._container

    def get(self) -> Any:
        try:
            if self.kind == "cell":
                return self._container.cell_contents
            container = self.parent.get() if self.parent else self._container
            return container[self.key]
        except (KeyError, IndexError, ValueError, TypeError):
            return _MISSING

    def set(self, value: Any) -> None:
        container = self.container
        if self.kind == "cell":
            container.cell_contents = value
        elif isinstance(container, dict):
            dict.__setitem__(container, self.key, value)
        else:
            container[self.key] = value

    def __repr__(self) -> str:
        return self.path


def _user_code(function: Any) -> bool:
    """False for functions of Fluxion and of the standard library: they keep no state of the user's."""
    module = getattr(function, "__module__", None) or ""
    return not module.startswith(("fluxion", "torch", "numpy", "builtins", "collections"))


class _Walk:
    def __init__(self) -> None:
        self.places: list[Place] = []
        self.seen: set[int] = set()
        self.tracked: set[int] = set()  # ids of containers whose changes bump the epoch
        self.held: list[Any] = []  # temporary objects, so that ids stay unique

    def visit(self, value: Any, path: str, place: Place | None = None) -> None:
        if isinstance(value, (Tensor, SCALARS, type, types.ModuleType, Generator)):
            return
        if id(value) in self.seen:
            return
        self.seen.add(id(value))
        self.held.append(value)
        if isinstance(value, dict):
            for key in list(value):
                name = key if isinstance(key, (str, int)) else type(key).__name__
                self.add(value, "item", key, f"{path}[{name!r}]", place)
        elif isinstance(value, list):
            for i in range(len(value)):
                self.add(value, "item", i, f"{path}[{i}]", place)
        elif isinstance(value, (tuple, set, frozenset)):
            for i, item in enumerate(value):
                self.visit(item, f"{path}[{i}]")
        elif isinstance(value, types.FunctionType):
            if _user_code(value):
                self.function(value, path)
        elif isinstance(value, types.MethodType):
            self.visit(value.__self__, path)
            if _user_code(value.__func__):
                self.visit(value.__func__, path)
        elif hasattr(value, "__wrapped__"):
            self.visit(value.__wrapped__, path)
        else:
            self.attributes(value, path)

    def attributes(self, value: Any, path: str) -> None:
        own = getattr(value, "__dict__", None)
        if not isinstance(own, dict):
            return
        self.seen.add(id(own))
        self.held.append(own)
        if isinstance(value, Module):
            self.tracked.add(id(own))
        for key in list(own):
            if key.endswith("_hooks") and not own[key]:
                continue
            self.add(own, "item", key, f"{path}.{key}")
        call = type(value).__dict__.get("forward") or type(value).__dict__.get("__call__")
        for attribute in (call, *_methods(type(value))):
            if isinstance(attribute, types.FunctionType) and _user_code(attribute):
                self.function(attribute, path)

    def add(
        self, container: Any, kind: str, key: Any, path: str, parent: Place | None = None
    ) -> None:
        place = Place(container, kind, key, path, parent, self.tracked)
        if place.tracked and isinstance(container, Options) and key == "params":
            self.tracked.add(id(place.get()))
        self.places.append(place)
        self.visit(place.get(), path, place)

    def function(self, function: types.FunctionType, path: str) -> None:
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
            if id(cell) not in self.seen:
                self.seen.add(id(cell))
                self.add(cell, "cell", None, name)
        for name in _global_names(code):
            value = function.__globals__.get(name, _MISSING)
            if value is _MISSING or isinstance(value, (types.ModuleType, type)):
                continue
            if (id(function.__globals__), name) not in self._globals:
                self._globals.add((id(function.__globals__), name))
                self.add(function.__globals__, "item", name, name)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self.visit(value, path)

    @property
    def _globals(self) -> set:
        return self.__dict__.setdefault("global_names", set())


def _methods(cls: type) -> Iterator[Any]:
    """Functions of user-defined classes, whose globals and closures may be state."""
    for base in cls.__mro__:
        if base.__module__.startswith("fluxion") or base is object:
            continue
        yield from base.__dict__.values()


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def walk(function: Callable, arguments: Any = ()) -> list[Place]:
    """All places reachable from a function and from its non-tensor arguments."""
    w = _Walk()
    w.visit(function, getattr(function, "__name__", "f"))
    w.visit(list(arguments), "arguments")
    return w.places
