"""Normalisation and dropout."""

from __future__ import annotations

from fluxion import _C, Tensor

from ._common import finish

batch_norm = _C.batch_norm
group_norm = _C.group_norm
layer_norm = _C.layer_norm
rms_norm = _C.rms_norm


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalises each channel of each sample by its own mean and variance (or by the running ones)."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    channels = input.shape[1]
    if running_mean is not None and running_var is not None:
        with _C.no_grad():
            dims = tuple(range(2, input.dim()))
            running_mean.lerp_(input.mean(dims).mean(0), momentum)
            running_var.lerp_(input.var(dims).mean(0), momentum)
    return group_norm(input, channels, weight, bias, eps)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divides by `(k + alpha * mean of squares over size neighbouring channels) ** beta`."""
    if input.dim() < 3:
        raise ValueError(f"local_response_norm: input must have 3 or more dims, got {input.dim()}")
    before, channels = size // 2, input.shape[1]
    edges = [0, 0] * (input.dim() - 2) + [before, size - 1 - before]
    squares = _C.pad(input * input, edges)
    total = squares.narrow(1, 0, channels)
    for i in range(1, size):
        total = total + squares.narrow(1, i, channels)
    return input / (total * (alpha / size) + k) ** beta


def normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """`x / max(norm, eps)` with the p-norm along `dim`."""
    result = input / input.norm(p, dim, keepdim=True).clamp(min=eps)
    return result if out is None else out.copy_(result)


def _check_probability(name: str, p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"{name}: p must be a probability between 0 and 1, got {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes elements with probability `p` and scales the rest by `1 / (1 - p)`; only in training."""
    if not 0.0 <= p <= 1.0:
        _check_probability("dropout", p)
    if not training or p == 0.0:
        return input
    return finish(input, _C.dropout(input, p, True), inplace)


def _feature_dropout(
    name: str, ranks: tuple[int, int], input: Tensor, p: float, training: bool, inplace: bool
) -> Tensor:
    """Zeroes whole channels; `ranks` are the input's ranks without and with a batch."""
    _check_probability(name, p)
    if input.dim() not in ranks:
        raise RuntimeError(
            f"{name}: input must have {ranks[0]} or {ranks[1]} dims, got {input.dim()}"
        )
    if not training or p == 0.0:
        return input
    kept = tuple(input.shape[: input.dim() - ranks[0] + 1]) + (1,) * (ranks[0] - 1)
    mask = _C.dropout(_C.ones(kept, dtype=input.dtype), p, True)
    return finish(input, input * mask, inplace)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """`dropout` of whole channels of (N, C, L) or (C, L)."""
    return _feature_dropout("dropout1d", (2, 3), input, p, training, inplace)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """`dropout` of whole channels of (N, C, H, W) or (C, H, W)."""
    return _feature_dropout("dropout2d", (3, 4), input, p, training, inplace)
