"""Arguments and results as trees: tensors in order, and the structure around them."""

from __future__ import annotations

from fluxion import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["flatten", "rebuild", "signature"]


class Leaf:
    """The place of the i-th tensor (or number) in a structure."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def flatten(value: Any, leaves: list[Any], is_leaf: Callable[[Any], bool]) -> Any:
    """The structure of `value` with Leaf objects where `is_leaf` holds; appends the leaves."""
    if is_leaf(value):
        leaves.append(value)
        return Leaf(len(leaves) - 1)
    kind = type(value)
    if kind in (tuple, list):
        return kind(flatten(item, leaves, is_leaf) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*(flatten(item, leaves, is_leaf) for item in value))
    if isinstance(value, dict):
        items = {key: flatten(item, leaves, is_leaf) for key, item in value.items()}
        return items if kind is dict else kind(items)
    return value


def rebuild(structure: Any, leaves: list[Any]) -> Any:
    """The inverse of flatten()."""
    kind = type(structure)
    if kind is Leaf:
        return leaves[structure.index]
    if kind in (tuple, list):
        return kind(rebuild(item, leaves) for item in structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return kind(*(rebuild(item, leaves) for item in structure))
    if isinstance(structure, dict):
        items = {key: rebuild(item, leaves) for key, item in structure.items()}
        return items if kind is dict else kind(items)
    return structure


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def signature(structure: Any) -> Any:
    """A hashable form of a structure: equal for equal static arguments."""
    kind = type(structure)
    if kind is Leaf:
        return (Leaf, structure.index)
    if kind in (tuple, list) or (isinstance(structure, tuple) and hasattr(structure, "_fields")):
        return (kind, *(signature(item) for item in structure))
    if isinstance(structure, dict):
        return (kind, *((key, signature(item)) for key, item in structure.items()))
    try:
        hash(structure)
    except TypeError:
        return (kind, id(structure))
    return (kind, structure)
