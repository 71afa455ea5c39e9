"""Initialising tensors in place, with PyTorch's formulas. Every function returns its tensor."""

from __future__ import annotations

import math

from fluxion import _C, Tensor, no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    Generator = _C.Generator

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_LINEAR = ("linear", "conv1d", "conv2d", "conv3d")
_LINEAR += ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that a nonlinearity asks for; `param` is a slope for leaky_relu."""
    if nonlinearity in _LINEAR or nonlinearity == "sigmoid":
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        if param is None:
            slope = 0.01
        elif isinstance(param, (int, float)) and not isinstance(param, bool):
            slope = param
        else:
            raise ValueError(f"calculate_gain: negative slope must be a number, got {param!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"calculate_gain: unknown nonlinearity {nonlinearity!r}")


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Inputs per output and outputs per input of a weight (out, in, *kernel)."""
    if tensor.dim() < 2:
        raise ValueError(
            f"fan in and fan out need a tensor of 2 or more dims, got shape {tuple(tensor.shape)}"
        )
    outputs, inputs, *kernel = tensor.shape
    receptive = math.prod(kernel)
    return inputs * receptive, outputs * receptive


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform on [a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with this mean and standard deviation."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, conditioned on [a, b]: the inverse of the distribution function, applied to uniform numbers."""
    if mean < a - 2 * std or mean > b + 2 * std:
        import warnings

        warnings.warn(
            "trunc_normal_: mean is more than 2 std from [a, b]; the distribution may be off",
            stacklevel=2,
        )

    def cdf(x: float) -> float:
        return 0.5 * (1.0 + math.erf((x - mean) / (std * math.sqrt(2.0))))

    with no_grad():
        exact = _C.empty(tensor.shape, dtype=_C.float64)
        exact.uniform_(2 * cdf(a) - 1, 2 * cdf(b) - 1, generator=generator)
        values = _erfinv(exact) * (std * math.sqrt(2.0)) + mean
        return tensor.copy_(values.clamp(a, b))


def _erfinv(y: Tensor) -> Tensor:
    """Inverse error function of a float64 tensor: Winitzki's approximation, then four Newton steps."""
    y = y.clamp(-1 + 1e-16, 1 - 1e-16)
    log = (1 - y * y).log()
    a = 0.147
    middle = log * 0.5 + 2 / (math.pi * a)
    x = ((middle * middle - log / a).sqrt() - middle).clamp(min=0.0).sqrt() * y.sign()
    for _ in range(4):
        x = x - (x.erf() - y) * (x * x).exp() * (math.sqrt(math.pi) / 2)
    return x


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    with no_grad():
        return tensor.zero_()


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix."""
    if tensor.dim() != 2:
        raise ValueError(f"eye_: needs a tensor of 2 dims, got {tensor.dim()}")
    with no_grad():
        tensor.zero_()
        for i in range(min(tensor.shape)):
            tensor[i, i] = 1
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Convolution weights that pass each input channel through unchanged, per group."""
    if tensor.dim() not in (3, 4, 5):
        raise ValueError(f"dirac_: needs a tensor of 3, 4 or 5 dims, got {tensor.dim()}")
    outputs, inputs, *kernel = tensor.shape
    if outputs % groups:
        raise ValueError(f"dirac_: dim 0 must be divisible by groups {groups}, got {outputs}")
    per_group = outputs // groups
    centre = tuple(size // 2 for size in kernel)
    with no_grad():
        tensor.zero_()
        for group in range(groups):
            for i in range(min(per_group, inputs)):
                tensor[(group * per_group + i, i, *centre)] = 1
    return tensor


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform with variance `gain^2 * 2 / (fan_in + fan_out)` (Glorot and Bengio 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    std = gain * math.sqrt(2.0 / float(fan_in + fan_out))
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance `gain^2 * 2 / (fan_in + fan_out)` (Glorot and Bengio 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / float(fan_in + fan_out)), generator)


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float | None:
    """The standard deviation, or None for a tensor without elements."""
    if 0 in tensor.shape:
        import warnings

        warnings.warn(f"{name}: a tensor without elements is left as it is", stacklevel=3)
        return None
    fan = _calculate_correct_fan(tensor, mode)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with variance `gain^2 / fan` (He et al. 2015); `a` is the slope of a leaky ReLU."""
    std = _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    if std is None:
        return tensor
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with variance `gain^2 / fan` (He et al. 2015); `a` is the slope of a leaky ReLU."""
    std = _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity)
    return tensor if std is None else normal_(tensor, 0.0, std, generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A random matrix (dim 0 by the rest) with orthonormal rows or columns, times `gain` (Saxe et al. 2013)."""
    if tensor.dim() < 2:
        raise ValueError(f"orthogonal_: needs a tensor of 2 or more dims, got {tensor.dim()}")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    with no_grad():
        count, size = min(rows, columns), max(rows, columns)
        basis = _orthonormal_rows(
            _C.empty((count, size), dtype=_C.float64).normal_(generator=generator)
        )
        matrix = basis if rows < columns else basis.t()
        return tensor.copy_((matrix * gain).reshape(tensor.shape))


def _orthonormal_rows(matrix: Tensor) -> Tensor:
    """Gram-Schmidt in place, each row projected twice (enough for orthogonality to rounding error)."""
    for i in range(matrix.shape[0]):
        row, before = matrix[i], matrix[:i]
        for _ in range(2 if i else 0):
            row.sub_(before.t().mv(before.mv(row)))
        row.div_((row * row).sum().sqrt())
    return matrix


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Normal, with a fraction `sparsity` of each column zero (Martens 2010)."""
    if tensor.dim() != 2:
        raise ValueError(f"sparse_: needs a tensor of 2 dims, got {tensor.dim()}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    with no_grad():
        tensor.normal_(0, std, generator=generator)
        for column in range(columns):
            tensor[_C.randperm(rows)[:zeros], column] = 0
    return tensor
