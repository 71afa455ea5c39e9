"""Handles that take a registered hook away again."""

from __future__ import annotations

import itertools
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import Any

__all__ = ["RemovableHandle"]

_ids = itertools.count()


class RemovableHandle:
    """What a `register_*_hook` method returns: `remove()` takes the hook away, `with handle:` does so at the end.

    Holds the hook tables weakly, so a handle keeps no module alive.
    """

    def __init__(self, hooks: MutableMapping, *, extra: tuple[MutableMapping, ...] = ()) -> None:
        self.id = next(_ids)
        self._tables = tuple(weakref.ref(table) for table in (hooks, *extra))

    def remove(self) -> None:
        """Removes the hook; does nothing if it is gone already."""
        for reference in self._tables:
            table = reference()
            if table is not None:
                table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add_hook(
    hooks: MutableMapping,
    hook: Callable,
    *,
    prepend: bool = False,
    marks: tuple[tuple[MutableMapping, Any], ...] = (),
) -> RemovableHandle:
    """Puts `hook` into the ordered table `hooks`; `marks` are (table, value) pairs kept under the same id."""
    handle = RemovableHandle(hooks, extra=tuple(table for table, _ in marks))
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
    for table, value in marks:
        table[handle.id] = value
    return handle
