"""What several functions share."""

from __future__ import annotations

from fluxion import Tensor

_REDUCTIONS = ("mean", "sum", "none")


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction meant by PyTorch's two older arguments, or `reduction` where they are None."""
    if size_average is not None or reduce is not None:
        if reduce is not None and not reduce:
            return "none"
        return "mean" if size_average is None or size_average else "sum"
    return reduction


def reduced(values: Tensor, reduction: str) -> Tensor:
    """`values`, their mean or their sum."""
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    if reduction == "none":
        return values
    raise ValueError(f"reduction must be one of {_REDUCTIONS}, got {reduction!r}")


def finish(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    """`result`, written into `input` if asked."""
    return input.copy_(result) if inplace else result


def tuple_of(value: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    """An int repeated `count` times; a sequence as a tuple."""
    return (value,) * count if isinstance(value, int) else tuple(value)
