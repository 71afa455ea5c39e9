"""Linear maps and convolutions."""

from __future__ import annotations

from fluxion import _C, Tensor

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
    return _C.conv1d(input, weight, bias, stride, padding, dilation, groups)


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
    return _C.conv2d(input, weight, bias, stride, padding, dilation, groups)
