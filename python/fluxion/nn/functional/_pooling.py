"""Pooling."""

from __future__ import annotations

from fluxion import _C, Tensor

from ._common import tuple_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Size = int | tuple[int, ...]

avg_pool1d = _C.avg_pool1d
avg_pool2d = _C.avg_pool2d


def max_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of the last dim; with `return_indices` also its position."""
    function = _C.max_pool1d_with_indices if return_indices else _C.max_pool1d
    return function(input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of the last two dims; with `return_indices` also its position."""
    function = _C.max_pool2d_with_indices if return_indices else _C.max_pool2d
    return function(input, kernel_size, stride, padding, dilation, ceil_mode)


def adaptive_avg_pool1d(input: Tensor, output_size: Size) -> Tensor:
    """The mean over as many windows of the last dim as `output_size` says."""
    (size,) = tuple_of(output_size, 1)
    return _adaptive_mean(input, -1, size)


def adaptive_avg_pool2d(input: Tensor, output_size: Size | tuple[int | None, ...]) -> Tensor:
    """The mean over a grid of `output_size` windows of the last two dims; None keeps a dim's size."""
    if input.dim() not in (3, 4):
        raise RuntimeError(
            f"adaptive_avg_pool2d: input must be (N, C, H, W) or (C, H, W), got {tuple(input.shape)}"
        )
    wanted = tuple_of(output_size, 2)
    height, width = (size if want is None else want for want, size in zip(wanted, input.shape[-2:]))
    if height == 1 and width == 1:
        return input.mean((-2, -1), keepdim=True)
    rows, columns = input.shape[-2:]
    if height and width and rows % height == 0 and columns % width == 0:
        return _C.avg_pool2d(input, (rows // height, columns // width))
    return _adaptive_mean(_adaptive_mean(input, -2, height), -1, width)


def _adaptive_mean(input: Tensor, dim: int, count: int) -> Tensor:
    """Means over `count` windows of one dim; window i is [floor(i n / count), ceil((i + 1) n / count))."""
    size = input.shape[dim]
    if count == size:
        return input
    if count == 0:
        return input.narrow(dim, 0, 0)
    starts = [i * size // count for i in range(count)]
    ends = [-((i + 1) * size // -count) for i in range(count)]
    windows = [
        input.narrow(dim, start, end - start).mean(dim, keepdim=True)
        for start, end in zip(starts, ends)
    ]
    return _C.cat(windows, dim)
