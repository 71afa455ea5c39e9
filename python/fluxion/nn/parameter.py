"""Tensors that a module owns: `Parameter` is trained, `Buffer` is only part of the state."""

from __future__ import annotations

from copy import deepcopy

from fluxion import _C, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A leaf tensor that a `Module` lists among its parameters as soon as it is assigned as an attribute.

    It shares the memory of `data`; with `data=None` it is empty.
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        data = _C.empty(0) if data is None else data
        if not isinstance(data, Tensor):
            raise TypeError(
                f"Parameter: data must be a Tensor, got {type(data).__name__}; use fluxion.tensor(data)"
            )
        return Tensor._make_subclass(cls, data, requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        known = memo.get(id(self))
        if (
            known is None
        ):  # through `data`: parameters in one memory stay so, gradients are not copied
            known = memo[id(self)] = type(self)(deepcopy(self.data, memo), self.requires_grad)
        return known

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that a `Module` registers as a buffer when it is assigned as an attribute.

    `persistent=False` keeps it out of the `state_dict`.
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        data = _C.empty(0) if data is None else data
        if not isinstance(data, Tensor):
            raise TypeError(f"Buffer: data must be a Tensor, got {type(data).__name__}")
        buffer = Tensor._make_subclass(cls, data, data.requires_grad)
        buffer.persistent = persistent
        return buffer
