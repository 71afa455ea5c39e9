"""Stochastic gradient descent."""

from __future__ import annotations

from fluxion import _C, Tensor

from .optimizer import Optimizer, check_not_differentiable, check_options, rate_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .optimizer import Closure, Params

__all__ = ["SGD"]


class SGD(Optimizer):
    """`p -= lr * v` with `v = momentum * v + (1 - dampening) * g`; `g` includes `weight_decay * p`.

    The first `v` is `g`. `nesterov` steps by `g + momentum * v`; `maximize` climbs. One kernel per group; `foreach`
    and `fused` are accepted and have no effect.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_options("SGD", lr=lr, momentum=momentum, weight_decay=weight_decay)
        check_not_differentiable("SGD", differentiable)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def step(self, closure: Closure | None = None) -> Any:
        """Updates every parameter that has a gradient."""
        loss = None if closure is None else self._loss_of(closure)
        for group in self.param_groups:
            if group["momentum"]:
                self._step_with_momentum(group)
                continue
            params, grads = [], []
            for parameter in group["params"]:
                grad = parameter.grad
                if grad is not None:
                    params.append(parameter)
                    grads.append(grad)
            if params:
                _update(group, params, grads, [], False)
        return loss

    def _step_with_momentum(self, group: dict[str, Any]) -> None:
        state = self.state
        params, grads, buffers = [], [], []
        new_params, new_grads, new_buffers = [], [], []  # those without a momentum so far
        for parameter in group["params"]:
            grad = parameter.grad
            if grad is None:
                continue
            own = state[parameter]
            buffer = own.get("momentum_buffer")
            if buffer is not None:
                params.append(parameter)
                grads.append(grad)
                buffers.append(buffer)
            else:
                buffer = own["momentum_buffer"] = _C.empty_like(parameter, requires_grad=False)
                new_params.append(parameter)
                new_grads.append(grad)
                new_buffers.append(buffer)
        if params:
            _update(group, params, grads, buffers, False)
        if new_params:
            _update(group, new_params, new_grads, new_buffers, True)


def _update(group: dict[str, Any], params: list, grads: list, buffers: list, first: bool) -> None:
    _C._fused_sgd_(
        params,
        grads,
        buffers,
        rate_of(group),
        group["momentum"],
        group["dampening"],
        group["weight_decay"],
        group["nesterov"],
        group["maximize"],
        first,
    )
