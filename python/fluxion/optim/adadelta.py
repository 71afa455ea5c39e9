"""Adadelta."""

from __future__ import annotations

from fluxion import _C, Tensor, no_grad

from .optimizer import Optimizer, check_not_differentiable, check_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .optimizer import Closure, Params

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    """Steps by the gradient times the ratio of the running norms of steps and gradients (Zeiler 2012).

    `foreach` and `capturable` are accepted and have no effect.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_options("Adadelta", lr=lr, eps=eps, weight_decay=weight_decay)
        check_not_differentiable("Adadelta", differentiable)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Adadelta: Invalid rho: {rho}; it must be in [0, 1]")
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def step(self, closure: Closure | None = None) -> Any:
        """Updates every parameter that has a gradient."""
        loss = None if closure is None else self._loss_of(closure)
        with no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = _C.tensor(0.0, dtype=_C.float32)
            for name in ("square_avg", "acc_delta"):
                state[name] = _C.zeros_like(parameter, requires_grad=False)
        state["step"] += 1
        if group["maximize"]:
            grad = -grad
        if group["weight_decay"]:
            grad = grad.add(parameter, alpha=group["weight_decay"])
        square, steps = state["square_avg"], state["acc_delta"]
        rho, eps = group["rho"], group["eps"]
        square.mul_(rho).addcmul_(grad, grad, value=1 - rho)
        delta = steps.add(eps).sqrt_().div_(square.add(eps).sqrt_()).mul_(grad)
        steps.mul_(rho).addcmul_(delta, delta, value=1 - rho)
        parameter.add_(delta, alpha=-float(group["lr"]))
