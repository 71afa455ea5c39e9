"""Adagrad."""

from __future__ import annotations

from fluxion import _C, Tensor, no_grad

from .optimizer import Optimizer, check_not_differentiable, check_options, rate_of, step_along

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .optimizer import Closure, Params

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Steps by the gradient over the root of the sum of its squares (Duchi et al. 2011).

    The rate falls as `lr / (1 + (step - 1) * lr_decay)`. `foreach` and `fused` are accepted and have no effect.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_options(
            "Adagrad",
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        check_not_differentiable("Adagrad", differentiable)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] = _C.tensor(0.0, dtype=_C.float32)
                state["sum"] = _C.full_like(
                    parameter, group["initial_accumulator_value"], requires_grad=False
                )

    def share_memory(self) -> None:
        """Moves the state into memory shared between processes."""
        for state in self.state.values():
            state["sum"].share_memory_()

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
        state["step"] += 1
        if group["maximize"]:
            grad = -grad
        if group["weight_decay"]:
            grad = grad.add(parameter, alpha=group["weight_decay"])
        rate = rate_of(group)
        if group["lr_decay"]:
            rate = rate / (1 + (state["step"].double() - 1) * group["lr_decay"])
        total = state["sum"]
        total.addcmul_(grad, grad, value=1)
        step_along(parameter, grad / total.sqrt().add_(group["eps"]), rate)
