"""Changing dtype, device or memory of everything a module owns, in place."""

from __future__ import annotations

from fluxion import _C, Tensor, no_grad

from ._members import BUFFERS, PARAMETER, members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .module import Module


class Conversions:
    """The part of `Module` that converts parameters and buffers. Parameters stay the same objects."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Module:
        """Replaces the data of every parameter, gradient and buffer by `fn` of it. Returns self."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        with no_grad():
            for _, parameter in members(self, (PARAMETER,)):
                if parameter is not None:
                    gradient = parameter.grad
                    parameter.data = fn(parameter.data)
                    if gradient is not None:
                        gradient.data = fn(gradient.data)
            for name, buffer in members(self, BUFFERS):
                if buffer is not None:
                    self.__dict__[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """`to(device)`, `to(dtype)`, `to(device, dtype)` or `to(tensor)`, in place; returns self.

        A dtype must be floating point and converts only floating point members.
        """
        device, dtype = _parse_to(*args, **kwargs)

        def convert(tensor: Tensor) -> Tensor:
            target = {} if device is None else {"device": device}
            if dtype is not None and tensor.is_floating_point():
                target["dtype"] = dtype
            return tensor.to(**target) if target else tensor

        return self._apply(convert)

    def to_empty(self, *, device: str | _C.device | int | None, recurse: bool = True) -> Module:
        """Moves to `device` without copying values. Returns self."""
        return self._apply(lambda t: _C.empty_like(t, device=device), recurse)

    def type(self, dst_type: _C.dtype) -> Module:
        """Converts every parameter and buffer to `dst_type`. Returns self."""
        return self._apply(lambda t: t.type(dst_type))

    def _to_floating(self, dtype: _C.dtype) -> Module:
        return self._apply(lambda t: t.to(dtype=dtype) if t.is_floating_point() else t)

    def float(self) -> Module:
        """Converts floating point members to float32. Returns self."""
        return self._to_floating(_C.float32)

    def double(self) -> Module:
        """Converts floating point members to float64. Returns self."""
        return self._to_floating(_C.float64)

    def half(self) -> Module:
        """Converts floating point members to float16. Returns self."""
        return self._to_floating(_C.float16)

    def bfloat16(self) -> Module:
        """Converts floating point members to bfloat16. Returns self."""
        return self._to_floating(_C.bfloat16)

    def cpu(self) -> Module:
        """Moves everything to the CPU. Returns self."""
        return self.to(device="cpu")

    def cuda(self, device: int | str | None = None) -> Module:
        """Moves everything to a CUDA device. Returns self."""
        index = device if device is not None else "cuda"
        return self.to(device=f"cuda:{index}" if isinstance(index, int) else index)

    def share_memory(self) -> Module:
        """Moves everything into memory shared between processes. Returns self.

        Raises RuntimeError if other tensors see a member's memory, such as views or `.data` that are still held.
        """
        for tensor in {id(t): t for t in (*self.parameters(), *self.buffers())}.values():
            tensor.share_memory_()
        return self


def _parse_to(
    *args: Any,
    device: Any = None,
    dtype: _C.dtype | None = None,
    tensor: Tensor | None = None,
    non_blocking: bool = False,
    memory_format: Any = None,
) -> tuple[Any, _C.dtype | None]:
    for arg in args:
        if isinstance(arg, _C.dtype):
            dtype = arg
        elif isinstance(arg, Tensor):
            tensor = arg
        elif isinstance(arg, (str, _C.device)) or type(arg) is int:
            device = arg
        elif arg is not None and not isinstance(arg, bool):
            raise TypeError(f"Module.to: expected a device, dtype or tensor, got {arg!r}")
    if tensor is not None:
        device, dtype = tensor.device, tensor.dtype
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"Module.to: dtype must be floating point, got {dtype}")
    return device, dtype
