"""RMSprop."""

from __future__ import annotations

from fluxion import _C, Tensor, no_grad

from .optimizer import Optimizer, check_not_differentiable, check_options, rate_of, step_along

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .optimizer import Closure, Params

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Steps by the gradient over the root of its running mean square (Hinton 2012).

    `centered` subtracts the squared running mean. `foreach` and `capturable` are accepted and have no effect.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_options(
            "RMSprop", lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
        )
        check_not_differentiable("RMSprop", differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
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
            names = {"square_avg": True, "momentum_buffer": group["momentum"] > 0}
            for name, used in (names | {"grad_avg": group["centered"]}).items():
                if used:
                    state[name] = _C.zeros_like(parameter, requires_grad=False)
        state["step"] += 1
        if group["maximize"]:
            grad = -grad
        if group["weight_decay"]:
            grad = grad.add(parameter, alpha=group["weight_decay"])
        square, alpha = state["square_avg"], group["alpha"]
        square.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
        if group["centered"]:
            mean = state["grad_avg"]
            mean.lerp_(grad, 1 - alpha)
            denominator = square.addcmul(mean, mean, value=-1).sqrt_()
        else:
            denominator = square.sqrt()
        denominator.add_(group["eps"])
        rate = rate_of(group)
        if group["momentum"] > 0:
            buffer = state["momentum_buffer"]
            buffer.mul_(group["momentum"]).addcdiv_(grad, denominator)
            step_along(parameter, buffer, rate)
        else:
            step_along(parameter, grad / denominator, rate)
