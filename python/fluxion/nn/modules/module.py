"""`Module`: a callable with parameters, buffers and child modules."""

from __future__ import annotations

from fluxion import Tensor, _epoch
from fluxion.utils._grad import zero_gradient
from fluxion.utils.hooks import RemovableHandle, add_hook

from ..parameter import Buffer, Parameter
from ._convert import Conversions
from ._hooks import GLOBAL, HookTable, call_with_hooks, note_module_path
from ._members import BUFFER, BUFFERS, KIND_NAMES, MODULE, PARAMETER, TEMPORARY, MembersOf, members
from ._state import StateDicts
from ._traverse import Traversal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Module"]

_OWNED = (Parameter, Buffer)


class Module(Traversal, Conversions, StateDicts):
    """Base class of all neural network modules.

    A subclass calls `super().__init__()`, assigns parameters, buffers and child modules as attributes and
    defines `forward`. Calling the module runs `forward` and its hooks.

    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(fluxion.ones(1))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(fluxion.ones(2)).tolist()
    [1.0, 1.0]
    """

    training: bool
    _members: dict[str, int]
    _version = 1
    _hooked = False  # true on an instance once a call hook table of it was touched

    _parameters = MembersOf(PARAMETER)
    _buffers = MembersOf(*BUFFERS)
    _modules = MembersOf(MODULE)

    _forward_hooks = HookTable()
    _forward_hooks_with_kwargs = HookTable()
    _forward_hooks_always_called = HookTable()
    _forward_pre_hooks = HookTable()
    _forward_pre_hooks_with_kwargs = HookTable()
    _backward_hooks = HookTable()
    _backward_pre_hooks = HookTable()

    def __init__(self) -> None:
        values = self.__dict__
        values["_members"] = {}
        values["training"] = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(
            f'{type(self).__name__} has no "forward": define `def forward(self, ...)`'
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._hooked:
                return call_with_hooks(self, args, kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            note_module_path(self, error)
            raise

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        _epoch.value += 1
        if isinstance(value, _OWNED):
            if type(value) is Parameter or isinstance(value, Parameter):
                self._own(name, value, PARAMETER)
            else:
                self._own(name, value, BUFFER if value.persistent else TEMPORARY)
        elif isinstance(value, Module):
            self._own(name, value, MODULE)
        else:
            kind = self.__dict__.get("_members", {}).get(name)
            if kind is None:
                object.__setattr__(self, name, value)
                return
            if value is not None and not (kind in BUFFERS and isinstance(value, Tensor)):
                raise self._wrong_value(name, value, kind)
            self.__dict__[name] = value

    def _wrong_value(self, name: str, value: Any, kind: int) -> TypeError:
        wanted = ("Parameter", "Module", "Tensor", "Tensor")[kind]
        return TypeError(
            f"cannot assign {type(value).__name__} as {KIND_NAMES[kind]} '{name}' of "
            f"{type(self).__name__}: expected {wanted} or None"
        )

    def _own(self, name: str, value: Any, kind: int) -> None:
        """Makes `value` a member. It may replace one of a later kind (parameter, module, buffer)."""
        values = self.__dict__
        table = values.get("_members")
        if table is None:
            raise AttributeError(
                f"cannot assign {KIND_NAMES[kind]} '{name}' before Module.__init__() call: "
                f"begin {type(self).__name__}.__init__ with super().__init__()"
            )
        known = table.get(name)
        if known is not None and not _same_kind(known, kind):
            if kind > known:
                raise self._wrong_value(name, value, known)
            del table[name]
        table[name] = kind
        values[name] = value

    @staticmethod
    def _check_name(name: str, kind: int) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{KIND_NAMES[kind]} name must be a str, got {type(name).__name__}")
        if "." in name:
            raise KeyError(f"{KIND_NAMES[kind]} name can't contain \".\", got '{name}'")
        if name == "":
            raise KeyError(f'{KIND_NAMES[kind]} name can\'t be empty string ""')

    def __delattr__(self, name: str) -> None:
        _epoch.value += 1
        self._members.pop(name, None)
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted(name for name in object.__dir__(self) if not name[:1].isdigit())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # Registration

    def _register(self, name: str, value: Any, kind: int) -> None:
        table = self.__dict__.get("_members")
        if table is not None:
            self._check_name(name, kind)
            if not _same_kind(table.get(name), kind) and hasattr(self, name):
                raise KeyError(f"attribute '{name}' already exists in {type(self).__name__}")
        self._own(name, value, kind)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter; None declares the name without a value (such as a missing bias)."""
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"parameter '{name}' must be a Parameter or None, got {type(param).__name__}"
                )
            if param.grad_fn is not None:
                raise ValueError(
                    f"parameter '{name}' must be a leaf, got the result of {param.grad_fn}; "
                    "compute it in forward() instead"
                )
        self._register(name, param, PARAMETER)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is state but not trained; `persistent=False` keeps it out of `state_dict`."""
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"buffer '{name}' must be a Tensor or None, got {type(tensor).__name__}"
            )
        self._register(name, tensor, BUFFER if persistent else TEMPORARY)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a child module, which is then also the attribute `name`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(
                f"child module '{name}' must be a Module or None, got {type(module).__name__}"
            )
        self._register(name, module, MODULE)

    register_module = add_module

    @property
    def _non_persistent_buffers_set(self) -> set[str]:
        return {name for name, kind in self._members.items() if kind == TEMPORARY}

    # Hooks

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Calls `hook(module, args, output)` after `forward`; a result other than None replaces the output.

        `with_kwargs` passes `(module, args, kwargs, output)`; `always_call` calls it although forward failed.
        """
        marks = []
        if with_kwargs:
            marks.append((self._forward_hooks_with_kwargs, True))
        if always_call:
            marks.append((self._forward_hooks_always_called, True))
        return add_hook(self._forward_hooks, hook, prepend=prepend, marks=tuple(marks))

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, args)` before `forward`; a result other than None replaces the arguments.

        `with_kwargs` passes `(module, args, kwargs)` and expects a pair back.
        """
        marks = ((self._forward_pre_hooks_with_kwargs, True),) if with_kwargs else ()
        return add_hook(self._forward_pre_hooks, hook, prepend=prepend, marks=marks)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, grad_input, grad_output)` in backward; a result replaces `grad_input`."""
        return add_hook(self._backward_hooks, hook, prepend=prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, grad_output)` before the module's backward; a result replaces `grad_output`."""
        return add_hook(self._backward_pre_hooks, hook, prepend=prepend)

    # Modes

    def train(self, mode: bool = True) -> Module:
        """Sets training mode here and in all children (dropout, batch norm). Returns self."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be a bool, got {mode!r}")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Module:
        """Sets evaluation mode here and in all children. Returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freezes or unfreezes all parameters. Returns self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or zeroes them in place with `set_to_none=False`."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            else:
                zero_gradient(parameter)

    # Text

    def extra_repr(self) -> str:
        """The text between the parentheses of `repr`."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indent(repr(child))}" for name, child in members(self, (MODULE,))]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"


# Hooks of every module. They cost nothing before the first is registered; `nn.modules.module` is their place.


class _GlobalHandle(RemovableHandle):
    """Without the last of them modules are called directly again."""

    def remove(self) -> None:
        super().remove()
        Module._hooked = any(GLOBAL.values())


def _add_global(table: str, hook: Callable, *marked: str) -> RemovableHandle:
    tables = tuple(GLOBAL[name] for name in marked)
    handle = _GlobalHandle(GLOBAL[table], extra=tables)
    GLOBAL[table][handle.id] = hook
    for marks in tables:
        marks[handle.id] = True
    Module._hooked = True
    return handle


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls `hook(module, args)` before the `forward` of every module."""
    return _add_global("_forward_pre_hooks", hook)


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Calls `hook(module, args, output)` after the `forward` of every module."""
    marked = ["_forward_hooks_with_kwargs"] * with_kwargs
    marked += ["_forward_hooks_always_called"] * always_call
    return _add_global("_forward_hooks", hook, *marked)


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls `hook(module, grad_output)` before the backward of every module."""
    return _add_global("_backward_pre_hooks", hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls `hook(module, grad_input, grad_output)` after the backward of every module."""
    return _add_global("_backward_hooks", hook)


def _same_kind(known: int | None, kind: int) -> bool:
    return known == kind or (known in BUFFERS and kind in BUFFERS)


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")
