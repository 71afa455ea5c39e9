"""What modules and optimizers share about gradients."""

from __future__ import annotations

from fluxion import Tensor


def zero_gradient(parameter: Tensor) -> None:
    """Zeroes the gradient in place: it stays the same object, without history."""
    grad = parameter.grad
    if grad is None:
        return
    if grad.grad_fn is not None:
        grad.detach_()
    else:
        grad.requires_grad_(False)
    grad.zero_()
