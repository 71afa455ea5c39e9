"""Dicts that tell compiled functions when they change (`fluxion._epoch`)."""

from __future__ import annotations

from fluxion import _epoch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Options", "StateOfParameters", "TrackedDict"]


class TrackedDict(dict):
    """A dict whose changes bump the epoch."""

    __slots__ = ()

    def __missing__(self, key: Any) -> TrackedDict:
        raise KeyError(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _epoch.value += 1
        dict.__setitem__(self, key, value)


def _bumping(name: str) -> Any:
    plain = getattr(dict, name)

    def method(self: dict, *args: Any, **kwargs: Any) -> Any:
        _epoch.value += 1
        return plain(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = plain.__doc__
    return method


for _name in ("__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(TrackedDict, _name, _bumping(_name))


class StateOfParameters(TrackedDict):
    """A dict of dicts that are made when they are first asked for."""

    __slots__ = ()

    def __missing__(self, key: Any) -> TrackedDict:
        self[key] = made = TrackedDict()
        return made


class Options(TrackedDict):
    """A parameter group. Its learning rate may change at every step: compiled functions read it anew."""

    __slots__ = ()
    lifted = frozenset({"lr"})

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self.lifted or type(value) is not float or type(self.get(key)) is not float:
            _epoch.value += 1
        dict.__setitem__(self, key, value)
