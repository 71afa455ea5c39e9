"""Adam and AdamW."""

from __future__ import annotations

from fluxion import _C, Tensor

from .optimizer import Optimizer, check_not_differentiable, check_options, rate_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .optimizer import Closure, Params

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): steps by the running mean of gradients over the root of their mean square.

    `weight_decay` is added to the gradient, or with `decoupled_weight_decay` taken off the parameter directly.
    `amsgrad` keeps the largest mean square. One kernel per group; `foreach`, `capturable` and `fused` are accepted
    and have no effect.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        name = type(self).__name__
        check_options(name, lr=lr, eps=eps, weight_decay=weight_decay)
        check_not_differentiable(name, differentiable)
        if len(betas) != 2:
            raise ValueError(f"{name}: betas must be a pair, got {betas}")
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"{name}: Invalid beta {i}: {beta}; it must be in [0, 1)")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for own in self.state.values():
            if own and not isinstance(own["step"], Tensor):
                own["step"] = _C.tensor(float(own["step"]), dtype=_C.float32)

    def step(self, closure: Closure | None = None) -> Any:
        """Updates every parameter that has a gradient."""
        loss = None if closure is None else self._loss_of(closure)
        state = self.state
        for group in self.param_groups:
            amsgrad = group["amsgrad"]
            params, grads, averages, squares, largest, steps = [], [], [], [], [], []
            for parameter in group["params"]:
                grad = parameter.grad
                if grad is None:
                    continue
                own = state[parameter]
                if not own:
                    self._start(own, parameter, amsgrad)
                params.append(parameter)
                grads.append(grad)
                averages.append(own["exp_avg"])
                squares.append(own["exp_avg_sq"])
                steps.append(own["step"])
                if amsgrad:
                    largest.append(own["max_exp_avg_sq"])
            if params:
                beta1, beta2 = group["betas"]
                _C._fused_adam_(
                    params,
                    grads,
                    averages,
                    squares,
                    largest,
                    steps,
                    rate_of(group),
                    beta1,
                    beta2,
                    group["eps"],
                    group["weight_decay"],
                    amsgrad,
                    group["maximize"],
                    group["decoupled_weight_decay"],
                )
        return loss

    @staticmethod
    def _start(own: dict[str, Any], parameter: Tensor, amsgrad: bool) -> None:
        own["step"] = _C.tensor(0.0, dtype=_C.float32)
        names = (
            ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if amsgrad else ("exp_avg", "exp_avg_sq")
        )
        for name in names:
            own[name] = _C.zeros_like(parameter, requires_grad=False)


class AdamW(Adam):
    """Adam with weight decay taken off the parameter directly (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
