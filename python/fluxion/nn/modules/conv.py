"""Convolutions."""

from __future__ import annotations

import math

from fluxion import _C, Tensor

from .. import functional as F
from .. import init
from ..functional._common import tuple_of
from ..parameter import Parameter
from .module import Module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Size = int | tuple[int, ...]

__all__ = ["Conv1d", "Conv2d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _same_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    """(before, after) of each spatial dim, so that a stride 1 convolution keeps its size."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
    return [(total // 2, total - total // 2) for total in totals]


class _ConvNd(Module):
    _dims: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: str | Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dims = self._dims
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = tuple_of(kernel_size, dims)
        self.stride = tuple_of(stride, dims)
        self.padding = padding if isinstance(padding, str) else tuple_of(padding, dims)
        self.dilation = tuple_of(dilation, dims)
        self.groups = groups
        self.padding_mode = padding_mode
        self._check()
        empty = {"device": device, "dtype": dtype}
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(_C.empty(shape, **empty))
        self.register_parameter(
            "bias", Parameter(_C.empty(out_channels, **empty)) if bias else None
        )
        self.reset_parameters()

    def _check(self) -> None:
        name = type(self).__name__
        if self.groups <= 0:
            raise ValueError(f"{name}: groups must be positive, got {self.groups}")
        for what, channels in (("in", self.in_channels), ("out", self.out_channels)):
            if channels % self.groups:
                raise ValueError(
                    f"{name}: {what}_channels {channels} must be divisible by groups {self.groups}"
                )
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise ValueError(
                    f"{name}: padding must be 'same', 'valid' or integers, got {self.padding!r}"
                )
            if self.padding == "same" and any(step != 1 for step in self.stride):
                raise ValueError(f"{name}: padding='same' needs stride 1, got {self.stride}")
        if self.padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"{name}: padding_mode must be one of {_PADDING_MODES}, got {self.padding_mode!r}"
            )

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def _pad_amounts(self) -> list[int]:
        """(before, after) of the last spatial dim, of the one before it, ..., as `F.pad` takes them."""
        if self.padding == "valid":
            sides = [(0, 0)] * self._dims
        elif self.padding == "same":
            sides = _same_padding(self.kernel_size, self.dilation)
        else:
            sides = [(amount, amount) for amount in self.padding]  # type: ignore[misc]
        return [amount for side in reversed(sides) for amount in side]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._pad_amounts(), mode=self.padding_mode)
            padding = 0
        function = F.conv1d if self._dims == 1 else F.conv2d
        return function(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != (0,) * self._dims:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self._dims:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv1d(_ConvNd):
    """Convolution of (N, C, L) or (C, L): weight (out_channels, in_channels / groups, k).

    weight and bias start uniform on +-1 / sqrt(in_channels / groups * k). `padding` may be 'same' or 'valid'.
    """

    _dims = 1


class Conv2d(_ConvNd):
    """Convolution of (N, C, H, W) or (C, H, W): weight (out_channels, in_channels / groups, kh, kw).

    weight and bias start uniform on +-1 / sqrt(in_channels / groups * kh * kw). `padding` may be 'same' or
    'valid'.
    """

    _dims = 2
