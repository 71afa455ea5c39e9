"""`FloatTensor`, `LongTensor` ...: PyTorch's old names of tensors by dtype, for annotations, isinstance and calls."""

from __future__ import annotations

from fluxion import _C, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _TensorType(type):
    dtype: _C.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype

    def __call__(cls, *args: Any) -> Tensor:
        if len(args) == 1 and not isinstance(args[0], int):
            return _C.tensor(args[0], dtype=cls.dtype)
        return _C.empty(*args, dtype=cls.dtype) if args else _C.empty(0, dtype=cls.dtype)


_NAMES = {
    "BFloat16Tensor": _C.bfloat16,
    "BoolTensor": _C.bool,
    "ByteTensor": _C.uint8,
    "CharTensor": _C.int8,
    "DoubleTensor": _C.float64,
    "FloatTensor": _C.float32,
    "HalfTensor": _C.float16,
    "IntTensor": _C.int32,
    "LongTensor": _C.int64,
    "ShortTensor": _C.int16,
}
__all__ = list(_NAMES)  # noqa: PLE0605

globals().update((name, _TensorType(name, (), {"dtype": dtype})) for name, dtype in _NAMES.items())
