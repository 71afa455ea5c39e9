"""Activation functions: the core's, with PyTorch's `inplace` and `dtype` arguments."""

from __future__ import annotations

from fluxion import _C, Tensor

from ._common import finish

TYPE_CHECKING = False
if TYPE_CHECKING:
    dtype_t = _C.dtype

gelu = _C.gelu
glu = _C.glu
hardshrink = _C.hardshrink
logsigmoid = _C.logsigmoid
prelu = _C.prelu
sigmoid = _C.sigmoid
softplus = _C.softplus
softshrink = _C.softshrink
softsign = _C.softsign
tanh = _C.tanh
tanhshrink = _C.tanhshrink


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`max(x, 0)`, elementwise."""
    return input.relu_() if inplace else _C.relu(input)


def relu_(input: Tensor) -> Tensor:
    """`relu` in place."""
    return input.relu_()


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x, 0), 6)`, elementwise."""
    return finish(input, _C.relu6(input), inplace)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * sigmoid(x)`, elementwise."""
    return finish(input, _C.silu(input), inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * tanh(softplus(x))`, elementwise."""
    return finish(input, _C.mish(input), inplace)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """`x` limited to `[min_val, max_val]`, elementwise."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} must not exceed max_val {max_val}")
    return finish(input, _C.hardtanh(input, min_val, max_val), inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`x` where positive, `negative_slope * x` elsewhere."""
    return finish(input, _C.leaky_relu(input, negative_slope), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`x` where positive, `alpha * (exp(x) - 1)` elsewhere."""
    return finish(input, _C.elu(input, alpha), inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """`elu` scaled so that activations keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return finish(input, _C.selu(input), inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)`, elementwise."""
    return finish(input, _C.celu(input, alpha), inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x + 3, 0), 6) / 6`, elementwise."""
    return finish(input, _C.hardsigmoid(input), inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * hardsigmoid(x)`, elementwise."""
    return finish(input, _C.hardswish(input), inplace)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """`x` where `x > threshold`, `value` elsewhere."""
    return finish(input, _C.threshold(input, threshold, value), inplace)


def _implied_dim(name: str, ndim: int) -> int:
    import warnings

    warnings.warn(f"{name}: give dim; a choice by rank is deprecated", stacklevel=4)
    return 0 if ndim in (0, 1, 3) else 1


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtype_t | None = None
) -> Tensor:
    """`exp(x) / sum(exp(x))` along `dim`; `dtype` converts the input first."""
    if dim is None:
        dim = _implied_dim("softmax", input.dim())
    return _C.softmax(input, dim, dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtype_t | None = None
) -> Tensor:
    """`log(softmax(x))` along `dim`; `dtype` converts the input first."""
    if dim is None:
        dim = _implied_dim("log_softmax", input.dim())
    return _C.log_softmax(input, dim, dtype)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtype_t | None = None
) -> Tensor:
    """`softmax(-x)` along `dim`."""
    if dim is None:
        dim = _implied_dim("softmin", input.dim())
    return _C.softmax(-input, dim, dtype)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A sample of the Gumbel-softmax distribution; `hard` makes it one-hot with the soft gradient."""
    exponential = -_C.rand_like(logits).clamp(min=1e-30).log()
    soft = ((logits - exponential.clamp(min=1e-30).log()) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.argmax(dim, keepdim=True)
    one_hot = _C.zeros_like(logits).scatter(dim, index, 1.0)
    return one_hot - soft.detach() + soft
