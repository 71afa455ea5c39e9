"""The base class of all optimizers: parameter groups, state, their state_dict, hooks."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy

from fluxion import Tensor, enable_grad
from fluxion.utils._grad import zero_gradient
from fluxion.utils.hooks import RemovableHandle, add_hook
from fluxion.utils.tracked import Options, StateOfParameters, TrackedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
    Closure = Callable[[], Any]

__all__ = ["Optimizer"]


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()  # the default of an option that every group must give


class Optimizer:
    """Base class of optimizers. A subclass calls `super().__init__(params, defaults)` and defines `step`.

    `param_groups` is a list of dicts with "params" and the options; options are read at every step, so they may
    be changed at any time. `state` maps each parameter to a dict.
    """

    param_groups: list[dict[str, Any]]
    state: dict[Tensor, dict[str, Any]]
    defaults: dict[str, Any]

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                f"{type(self).__name__}: params must be an iterable of tensors or dicts, got a Tensor"
            )
        self.defaults = defaults
        self.state = StateOfParameters()
        self.param_groups = []
        self._make_hook_tables()
        groups = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: got no parameters")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hook_tables(self) -> None:
        self._step_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._step_post_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._state_dict_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._state_dict_post_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._load_state_dict_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._load_state_dict_post_hooks: OrderedDict[int, Callable] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "defaults": self.defaults,
            "state": self.state,
            "param_groups": self.param_groups,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.param_groups = [Options(group) for group in self.param_groups]
        self.state = StateOfParameters(
            (key, TrackedDict(own) if isinstance(own, dict) else own)
            for key, own in self.state.items()
        )
        if "_step_pre_hooks" not in self.__dict__:  # a copy or an unpickled optimizer has no hooks
            self._make_hook_tables()
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def __repr__(self) -> str:
        text = type(self).__name__ + " ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join(f"    {k}: {group[k]}\n" for k in sorted(group) if k != "params")
        return text + ")"

    # The step

    def step(self, closure: Closure | None = None) -> Any:
        """Updates the parameters once; returns what `closure` (a function that recomputes the loss) returned."""
        raise NotImplementedError(f"{type(self).__name__} does not define step()")

    @staticmethod
    def _loss_of(closure: Closure) -> Any:
        with enable_grad():
            return closure()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or zeroes them in place with `set_to_none=False`."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                else:
                    zero_gradient(parameter)

    # Parameter groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters with options of its own; missing options come from the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        given = param_group["params"]
        if isinstance(given, Tensor):
            params = [given]
        elif isinstance(given, set):
            raise TypeError("parameters must be in an ordered collection, not a set")
        else:
            params = list(given)
        named = [isinstance(item, tuple) for item in params]
        if any(named):
            if not all(named):
                raise ValueError("either all parameters of a group have names or none has")
            param_group["param_names"] = [name for name, _ in params]
            params = [parameter for _, parameter in params]
        if self.param_groups and any(named) != ("param_names" in self.param_groups[0]):
            raise ValueError("either the parameters of all groups have names or those of none")
        param_group["params"] = params
        self._check_params(params)
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group does not give the required option {name!r}")
            param_group.setdefault(name, default)
        self.param_groups.append(Options(param_group))

    def _check_params(self, params: list[Tensor]) -> None:
        name = type(self).__name__
        for parameter in params:
            if not isinstance(parameter, Tensor):
                raise TypeError(f"{name} can optimize Tensors, got {type(parameter).__name__}")
            if not (parameter.is_leaf or self.defaults.get("differentiable")):
                raise ValueError(f"{name} can't optimize a tensor that is not a leaf")
        ids = {id(parameter) for parameter in params}
        if len(ids) != len(params):
            import warnings

            warnings.warn(
                f"{name}: a parameter group holds a parameter twice; that is likely not what you want",
                stacklevel=4,
            )
        if any(
            id(parameter) in ids for group in self.param_groups for parameter in group["params"]
        ):
            raise ValueError("some parameters appear in more than one parameter group")

    # state_dict, in PyTorch's format: parameters are numbered through all groups

    def state_dict(self) -> dict[str, Any]:
        """{"state": state by parameter number, "param_groups": options with the numbers of the parameters}."""
        for pre_hook in list(self._state_dict_pre_hooks.values()):
            pre_hook(self)
        number = self._numbers()
        groups = []
        for group in self.param_groups:
            options = {name: value for name, value in group.items() if name != "params"}
            groups.append({**options, "params": [number[id(p)] for p in group["params"]]})
        state = {
            (number[id(key)] if isinstance(key, Tensor) else key): value
            for key, value in self.state.items()
        }
        result = {"state": state, "param_groups": groups}
        for post_hook in list(self._state_dict_post_hooks.values()):
            replaced = post_hook(self, result)
            if replaced is not None:
                result = replaced
        return result

    def _numbers(self) -> dict[int, int]:
        number: dict[int, int] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                number.setdefault(id(parameter), len(number))
        return number

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over options and state (copied). Floating point state gets the parameter's dtype and device.

        Raises ValueError if the groups differ in number or size.
        """
        state_dict = dict(state_dict)
        for pre_hook in list(self._load_state_dict_pre_hooks.values()):
            replaced = pre_hook(self, state_dict)
            if replaced is not None:
                state_dict = replaced
        saved = deepcopy(state_dict["param_groups"])
        if len(saved) != len(self.param_groups):
            raise ValueError(
                "loaded state dict has a different number of parameter groups: "
                f"{len(saved)}, the optimizer has {len(self.param_groups)}"
            )
        parameter_of: dict[Any, Tensor] = {}
        for i, (new, old) in enumerate(zip(saved, self.param_groups)):
            if len(new["params"]) != len(old["params"]):
                raise ValueError(
                    f"loaded state dict contains a parameter group that doesn't match the size of "
                    f"optimizer's group {i}: {len(new['params'])} parameters, not {len(old['params'])}"
                )
            parameter_of.update(zip(new["params"], old["params"]))
        state: dict[Any, Any] = StateOfParameters()
        for key, value in state_dict["state"].items():
            parameter = parameter_of.get(key)
            if parameter is None:
                state[key] = value
            else:
                state[parameter] = _state_for(parameter, value)
        groups = []
        for new, old in zip(saved, self.param_groups):
            groups.append({**new, "params": old["params"]})
            if "param_names" in old and "param_names" not in new:
                groups[-1]["param_names"] = old["param_names"]
        self.__setstate__({"state": state, "param_groups": groups})
        for post_hook in list(self._load_state_dict_post_hooks.values()):
            post_hook(self)

    # Hooks

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` before each step; a result replaces (args, kwargs).

        `args` begins with the optimizer itself, as in PyTorch.
        """
        self._enable_step_hooks()
        return add_hook(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` after each step."""
        self._enable_step_hooks()
        return add_hook(self._step_post_hooks, hook)

    def _enable_step_hooks(self) -> None:
        """From now on `self.step` runs hooks too; an optimizer without hooks pays nothing."""
        if "_plain_step" not in self.__dict__:
            self._plain_step = self.step
            self.step = self._step_with_hooks  # type: ignore[method-assign]

    def _step_with_hooks(self, *args: Any, **kwargs: Any) -> Any:
        args = (self, *args)
        for hook in list(self._step_pre_hooks.values()):
            replaced = hook(self, args, kwargs)
            if replaced is not None:
                if not (isinstance(replaced, tuple) and len(replaced) == 2):
                    raise RuntimeError(
                        f"a step pre-hook must return None or a pair (args, kwargs), got {replaced!r}"
                    )
                args, kwargs = replaced
        result = self._plain_step(*args[1:], **kwargs)
        for hook in list(self._step_post_hooks.values()):
            hook(self, args, kwargs)
        return result

    def register_state_dict_pre_hook(
        self, hook: Callable[..., None], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer)` before `state_dict()`."""
        return add_hook(self._state_dict_pre_hooks, hook, prepend=prepend)

    def register_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer, state_dict)` after `state_dict()`; a result replaces it."""
        return add_hook(self._state_dict_post_hooks, hook, prepend=prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer, state_dict)` before loading; a result replaces the state_dict."""
        return add_hook(self._load_state_dict_pre_hooks, hook, prepend=prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[..., None], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer)` after loading."""
        return add_hook(self._load_state_dict_post_hooks, hook, prepend=prepend)


def _state_for(parameter: Tensor, value: Any, key: str | None = None) -> Any:
    """A copy of saved state; tensors other than "step" follow a floating point parameter's dtype."""
    if isinstance(value, Tensor):
        if key != "step" and parameter.dtype.is_floating_point:
            return value.to(dtype=parameter.dtype, device=parameter.device, copy=True)
        return value.clone()
    if isinstance(value, dict):
        return {name: _state_for(parameter, item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_state_for(parameter, item) for item in value)
    return value


def check_options(name: str, **options: float) -> None:
    """Raises ValueError for negative options (numbers or 0-dim tensors)."""
    for option, value in options.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(
                f"{name}: {option} must have one element, got shape {tuple(value.shape)}"
            )
        if not isinstance(value, (int, float, Tensor)):
            raise TypeError(f"{name}: {option} must be a number, got {value!r}")
        if not value >= 0.0:
            raise ValueError(f"{name}: Invalid {option}: {value}; it must not be negative")


def rate_of(group: dict[str, Any]) -> float | Tensor:
    """The group's learning rate; a tensor stays one, so that it can change under a captured step."""
    rate = group["lr"]
    return float(rate) if isinstance(rate, int) else rate


def step_along(parameter: Tensor, direction: Tensor, rate: float | Tensor) -> None:
    """parameter -= rate * direction, in place."""
    if isinstance(rate, Tensor):
        parameter.add_(direction * -rate)
    else:
        parameter.add_(direction, alpha=-rate)


def check_not_differentiable(name: str, differentiable: bool) -> None:
    """The fused steps do not record gradients."""
    if differentiable:
        raise NotImplementedError(f"{name}: differentiable=True is not in Fluxion yet")
