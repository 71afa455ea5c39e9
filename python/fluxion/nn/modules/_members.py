"""What a module owns, by kind.

Parameters, buffers and child modules live in the instance's `__dict__` like any attribute, so reading one costs
a plain attribute access; `module._members` maps their names, in order of registration, to a kind.
`module._parameters`, `_buffers` and `_modules` are live views of one kind.
"""

from __future__ import annotations

from collections.abc import MutableMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .module import Module

PARAMETER, MODULE, BUFFER, TEMPORARY = range(4)  # TEMPORARY: a buffer that is not in the state_dict
BUFFERS = (BUFFER, TEMPORARY)
KIND_NAMES = ("parameter", "child module", "buffer", "buffer")


def members(module: Module, kinds: tuple[int, ...]) -> list[tuple[str, Any]]:
    """(name, value) of the module's own members of these kinds, in order of registration; values may be None."""
    values = module.__dict__
    return [(name, values[name]) for name, kind in module._members.items() if kind in kinds]


class MembersView(MutableMapping):
    """A live mapping of one kind of members. Writing registers without the checks of `register_*`."""

    __slots__ = ("_kinds", "_module")

    def __init__(self, module: Module, kinds: tuple[int, ...]) -> None:
        self._module = module
        self._kinds = kinds

    def __getitem__(self, name: str) -> Any:
        if self._module._members.get(name) not in self._kinds:
            raise KeyError(name)
        return self._module.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        table = self._module._members
        if table.get(name) not in self._kinds:
            table.pop(name, None)
            table[name] = self._kinds[0]
        self._module.__dict__[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        del self._module._members[name], self._module.__dict__[name]

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in members(self._module, self._kinds)])

    def __len__(self) -> int:
        return len(members(self._module, self._kinds))

    def __contains__(self, name: object) -> bool:
        return self._module._members.get(name) in self._kinds  # type: ignore[call-overload]

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __repr__(self) -> str:
        return repr(dict(self))


class MembersOf:
    """Descriptor: `module._parameters` and its like."""

    def __init__(self, *kinds: int) -> None:
        self.kinds = kinds

    def __get__(self, module: Module | None, owner: type | None = None) -> Any:
        return self if module is None else MembersView(module, self.kinds)

    def __set__(self, module: Module, value: Any) -> None:
        view = MembersView(module, self.kinds)
        view.clear()
        view.update(value)
