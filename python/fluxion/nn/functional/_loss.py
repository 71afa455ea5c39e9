"""Losses: the core's, and the rarer ones in terms of other operations."""

from __future__ import annotations

import math
import warnings
from functools import wraps

from fluxion import _C, Tensor

from ._activation import logsigmoid
from ._common import legacy_reduction, reduced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Flag = bool | None


def _warns_of_broadcasting(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function(input, target, ...)` that warns if the shapes differ: (8, 1) and (8,) compare all with all."""

    @wraps(function)
    def loss(*args: Any, **kwargs: Any) -> Tensor:
        result = function(*args, **kwargs)
        input = args[0] if args else kwargs["input"]
        target = args[1] if len(args) > 1 else kwargs["target"]
        if input.shape != target.shape:
            warnings.warn(
                f"{function.__name__}: input of shape {tuple(input.shape)} and target of shape "
                f"{tuple(target.shape)} are broadcast; give them the same shape",
                stacklevel=2,
            )
        return result

    return loss


@wraps(_C.binary_cross_entropy)
def binary_cross_entropy(*args: Any, **kwargs: Any) -> Tensor:
    result = _C.binary_cross_entropy(*args, **kwargs)
    given = dict(zip(("input", "target"), args)) | kwargs
    for name in ("input", "target"):
        values = given[name].detach()
        if values.numel() and not 0 <= values.amin().item() <= values.amax().item() <= 1:
            raise RuntimeError(
                f"binary_cross_entropy: all elements of {name} must be between 0 and 1, got "
                f"{values.amin().item()} to {values.amax().item()}; "
                "binary_cross_entropy_with_logits takes any scores as input"
            )
    return result


binary_cross_entropy_with_logits = _C.binary_cross_entropy_with_logits
cross_entropy = _C.cross_entropy
huber_loss = _warns_of_broadcasting(_C.huber_loss)
kl_div = _C.kl_div
l1_loss = _warns_of_broadcasting(_C.l1_loss)
mse_loss = _warns_of_broadcasting(_C.mse_loss)
nll_loss = _C.nll_loss
smooth_l1_loss = _warns_of_broadcasting(_C.smooth_l1_loss)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: Flag = None,
    eps: float = 1e-8,
    reduce: Flag = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood of counts `target` under a Poisson rate (its logarithm with `log_input`)."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    losses = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        safe = _C.where(target > 1, target, _C.ones_like(target))
        stirling = safe * safe.log() - safe + (safe * (2 * math.pi)).log() * 0.5
        losses = losses + _C.where(target > 1, stirling, _C.zeros_like(stirling))
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood of `target` under normal distributions with mean `input` and variance `var`."""
    if not isinstance(var, Tensor):
        var = _C.full_like(input, var)
    if var.shape == input.shape[:-1] and var.dim() == input.dim() - 1:
        var = var.unsqueeze(-1)
    elif var.shape not in (input.shape, (*input.shape[:-1], 1)):
        raise ValueError(
            f"gaussian_nll_loss: var must have the input's shape {tuple(input.shape)}, or 1 as its last "
            f"size or no last dim, got {tuple(var.shape)}"
        )
    if bool((var < 0).any()):
        raise ValueError("gaussian_nll_loss: var must not be negative")
    var = var + (var.detach().clamp(min=eps) - var.detach())  # limited, with the gradient of var
    losses = (var.log() + (input - target) ** 2 / var) * 0.5
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: Flag = None,
    reduce: Flag = None,
    reduction: str = "mean",
) -> Tensor:
    """`x` where the target is 1, `max(0, margin - x)` where it is -1."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    zero = _C.zeros_like(input)
    losses = _C.where(target == 1, input, zero)
    losses = losses + _C.where(target == -1, (margin - input).clamp(min=0.0), zero)
    return reduced(losses, reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Flag = None,
    reduce: Flag = None,
    reduction: str = "mean",
) -> Tensor:
    """`max(0, -target * (input1 - input2) + margin)`, reduced."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not input1.dim() == input2.dim() == target.dim():
        shapes = [tuple(tensor.shape) for tensor in (input1, input2, target)]
        raise RuntimeError(
            f"margin_ranking_loss: inputs and target must have as many dims as each other, got {shapes}"
        )
    return reduced((-target * (input1 - input2) + margin).clamp(min=0.0), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: Flag = None,
    reduce: Flag = None,
    reduction: str = "mean",
) -> Tensor:
    """`log(1 + exp(-target * input))`, reduced."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return reduced(-logsigmoid(target * input), reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Flag = None,
    reduce: Flag = None,
    reduction: str = "mean",
) -> Tensor:
    """`1 - cos` where the target is 1, `max(0, cos - margin)` where it is -1."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    epsilon = 1e-12
    squares1 = (input1 * input1).sum(-1) + epsilon
    squares2 = (input2 * input2).sum(-1) + epsilon
    cosine = (input1 * input2).sum(-1) / (squares1 * squares2).sqrt()
    zero = _C.zeros_like(cosine)
    losses = _C.where(target == 1, 1 - cosine, zero)
    losses = losses + _C.where(target == -1, (cosine - margin).clamp(min=0.0), zero)
    return reduced(losses, reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: Flag = None,
    reduce: Flag = None,
    reduction: str = "mean",
) -> Tensor:
    """`max(0, d(anchor, positive) - d(anchor, negative) + margin)` with p-norm distances, reduced."""
    from ._shape import pairwise_distance

    reduction = legacy_reduction(size_average, reduce, reduction)
    near = pairwise_distance(anchor, positive, p, eps)
    far: Any = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = _C.minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced((near - far + margin).clamp(min=0.0), reduction)
