"""Utilities around training: data loading and hook handles."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["data", "hooks"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        from importlib import import_module

        return import_module(f"fluxion.utils.{name}")
    raise AttributeError(f"module 'fluxion.utils' has no attribute {name!r}")
