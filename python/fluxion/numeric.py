"""`finfo` and `iinfo`: the limits of dtypes."""

from __future__ import annotations

from fluxion import _C

__all__ = ["finfo", "iinfo"]

# significant bits, least and greatest exponent of normal numbers, decimal digits
_FLOATS = {
    _C.float16: (11, -14, 15, 3),
    _C.bfloat16: (8, -126, 127, 2),
    _C.float32: (24, -126, 127, 6),
    _C.float64: (53, -1022, 1023, 15),
}
_INTEGERS = {
    _C.uint8: (0, 8),
    _C.int8: (1, 8),
    _C.int16: (1, 16),
    _C.int32: (1, 32),
    _C.int64: (1, 64),
}


class finfo:
    """The limits of a floating dtype; without one, of the default dtype."""

    def __init__(self, dtype: _C.dtype | None = None) -> None:
        dtype = _C.get_default_dtype() if dtype is None else dtype
        if dtype not in _FLOATS:
            raise TypeError(
                f"finfo() needs a floating dtype, got {dtype}; use iinfo() for integers"
            )
        significant, least, greatest, digits = _FLOATS[dtype]
        self.dtype = str(dtype).removeprefix("fluxion.")
        self.bits = dtype.itemsize * 8
        self.eps = 2.0 ** (1 - significant)
        self.max = (2.0 - self.eps) * 2.0**greatest
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0**least
        self.resolution = 10.0**-digits

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """The limits of an integer dtype."""

    def __init__(self, dtype: _C.dtype) -> None:
        if dtype not in _INTEGERS:
            raise TypeError(f"iinfo() needs an integer dtype, got {dtype}; use finfo() for floats")
        signed, self.bits = _INTEGERS[dtype]
        self.dtype = str(dtype).removeprefix("fluxion.")
        self.min = -(1 << (self.bits - 1)) if signed else 0
        self.max = (1 << (self.bits - signed)) - 1

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
