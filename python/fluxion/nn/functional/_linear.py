"""Linear maps and convolutions."""

from __future__ import annotations

from fluxion import _C, Tensor

from ._common import tuple_of

linear = _C.linear


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`y[..., k] = input1[..., i] * weight[k, i, j] * input2[..., j] + bias[k]`, summed over i and j."""
    if input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(
            f"bilinear: leading dims must agree, got {tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    outputs, rows, columns = weight.shape
    left = input1.reshape(-1, rows) @ weight.permute(1, 0, 2).reshape(rows, outputs * columns)
    left = left.view(-1, outputs, columns)
    result = (left * input2.reshape(-1, 1, columns)).sum(-1)
    result = result.view(*input1.shape[:-1], outputs)
    return result if bias is None else result + bias


def _conv(
    name: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | tuple[int, ...],
    padding: str | int | tuple[int, ...],
    dilation: int | tuple[int, ...],
    groups: int,
) -> Tensor:
    if isinstance(padding, str):
        input, padding = _named_padding(name, dims, input, weight, stride, padding, dilation)
    return getattr(_C, name)(input, weight, bias, stride, padding, dilation, groups)


def same_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    """(before, after) of each spatial dim, so that a stride 1 convolution keeps its size."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
    return [(total // 2, total - total // 2) for total in totals]


def _named_padding(
    name: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    stride: int | tuple[int, ...],
    padding: str,
    dilation: int | tuple[int, ...],
) -> tuple[Tensor, int | tuple[int, ...]]:
    if padding == "valid":
        return input, 0
    if padding != "same":
        raise ValueError(f"{name}: padding must be 'same', 'valid' or integers, got {padding!r}")
    if any(step != 1 for step in tuple_of(stride, dims)):
        raise ValueError(f"{name}: padding='same' needs stride 1, got {stride}")
    sides = same_padding(tuple(weight.shape[2:]), tuple_of(dilation, dims))
    if any(before != after for before, after in sides):  # the extra element goes behind
        extra = [x for before, after in reversed(sides) for x in (0, after - before)]
        input = _C.pad(input, extra)
    return input, tuple(before for before, _ in sides)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: str | int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of (N, C, L) or (C, L) with weights (out, C / groups, k)."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: str | int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of (N, C, H, W) or (C, H, W) with weights (out, C / groups, kh, kw)."""
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)
