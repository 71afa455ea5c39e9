"""What modules and optimizers share about gradients."""

from __future__ import annotations

from fluxion import Tensor


def clear_grad(parameter: Tensor, set_to_none: bool) -> None:
    """Drops the gradient, or zeroes it in place: then it stays the same object, without history."""
    grad = parameter.grad
    if grad is None:
        return
    if set_to_none:
        parameter.grad = None
        return
    if grad.grad_fn is not None:
        grad.detach_()
    else:
        grad.requires_grad_(False)
    grad.zero_()
