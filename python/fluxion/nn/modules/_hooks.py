"""How a module is called when hooks are present, and how a failing call learns the module's path."""

from __future__ import annotations

from collections import OrderedDict

from fluxion import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .module import Module


class HookTable:
    """Descriptor: a hook table that exists from its first use, so modules without hooks carry and check none."""

    def __init__(self, on_call: bool = True) -> None:
        self.on_call = on_call

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Module | None, owner: type | None = None) -> Any:
        if module is None:
            return self
        table = module.__dict__[self.name] = OrderedDict()
        if self.on_call:
            module.__dict__["_hooked"] = True
        return table


# The hooks of all modules, which run before a module's own.
GLOBAL: dict[str, OrderedDict[int, Any]] = {
    name: OrderedDict()
    for name in (
        "_forward_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
        "_backward_hooks",
        "_backward_pre_hooks",
    )
}


def _entries(module: Module, table: str) -> dict[int, Any]:
    """Global and own entries of a table, by id."""
    own = module.__dict__.get(table)
    return {**GLOBAL[table], **own} if own else dict(GLOBAL[table])


def call_with_hooks(module: Module, args: tuple, kwargs: dict[str, Any]) -> Any:
    """`module(*args, **kwargs)` with forward and backward hooks."""
    done: set[int] = set()
    result = None
    try:
        args, kwargs = _run_pre_hooks(module, args, kwargs)
        backward = BackwardHooks.of(module)
        if backward is not None:
            args = backward.tap_inputs(args)
        result = module.forward(*args, **kwargs)
        for key, hook in _entries(module, "_forward_hooks").items():
            done.add(key)
            replaced = _run_forward_hook(module, key, hook, args, kwargs, result)
            if replaced is not None:
                result = replaced
        return result if backward is None else backward.tap_outputs(result)
    except Exception:
        hooks = _entries(module, "_forward_hooks")
        for key in _entries(module, "_forward_hooks_always_called"):
            if key not in done and key in hooks:
                _run_after_failure(module, key, hooks[key], args, kwargs, result)
        raise


def _run_pre_hooks(module: Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    with_kwargs = _entries(module, "_forward_pre_hooks_with_kwargs")
    for key, hook in _entries(module, "_forward_pre_hooks").items():
        if key in with_kwargs:
            replaced = hook(module, args, kwargs)
            if replaced is None:
                continue
            if not (isinstance(replaced, tuple) and len(replaced) == 2):
                raise RuntimeError(
                    "forward pre-hook with kwargs must return None or a pair (args, kwargs), "
                    f"got {replaced!r}"
                )
            args, kwargs = replaced
        else:
            replaced = hook(module, args)
            if replaced is not None:
                args = replaced if isinstance(replaced, tuple) else (replaced,)
    return args, kwargs


def _run_forward_hook(
    module: Module, key: int, hook: Callable, args: tuple, kwargs: dict, result: Any
) -> Any:
    if key in _entries(module, "_forward_hooks_with_kwargs"):
        return hook(module, args, kwargs, result)
    return hook(module, args, result)


def _run_after_failure(
    module: Module, key: int, hook: Callable, args: tuple, kwargs: dict, result: Any
) -> None:
    try:
        _run_forward_hook(module, key, hook, args, kwargs, result)
    except Exception as error:
        import warnings

        warnings.warn(
            f"a forward hook with always_call=True raised {error!r} while another error was on its way",
            stacklevel=2,
        )


class BackwardHooks:
    """The backward hooks of one call.

    The module's inputs and outputs pass through identity functions whose gradients are the `grad_input`
    and `grad_output` that the hooks see and may replace.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.grad_output: tuple = ()
        self.inputs: list[int] = []
        self.arguments = 0
        self.silent = False  # the output is no tensor

    @staticmethod
    def of(module: Module) -> BackwardHooks | None:
        used = _entries(module, "_backward_hooks") or _entries(module, "_backward_pre_hooks")
        return BackwardHooks(module) if used else None

    def tap_inputs(self, args: tuple) -> tuple:
        self.arguments = len(args)
        self.inputs = [
            i for i, arg in enumerate(args) if isinstance(arg, Tensor) and arg.requires_grad
        ]
        return self._tap(args, self.inputs, self._on_grad_input)

    def tap_outputs(self, result: Any) -> Any:
        if not isinstance(result, (Tensor, tuple)):
            import warnings

            warnings.warn(
                "backward hooks run only if the module's output is a Tensor or a tuple of Tensors, "
                f"got {type(result).__name__}",
                stacklevel=4,
            )
            self.silent = True
            return result
        single = not isinstance(result, tuple)
        outputs = (result,) if single else result
        places = [
            i for i, out in enumerate(outputs) if isinstance(out, Tensor) and out.requires_grad
        ]
        self.outputs, self.output_count = places, len(outputs)
        outputs = self._tap(outputs, places, self._on_grad_output)
        return outputs[0] if single else outputs

    @staticmethod
    def _tap(values: tuple, places: list[int], callback: Callable[[tuple], tuple]) -> tuple:
        if not places:
            return values
        tapped = _tap_function().apply(callback, *[values[i] for i in places])
        values = list(values)
        for i, value in zip(places, tapped):
            values[i] = value
        return tuple(values)

    def _on_grad_output(self, grads: tuple) -> tuple:
        full = _spread(grads, self.outputs, self.output_count)
        for hook in _entries(self.module, "_backward_pre_hooks").values():
            replaced = hook(self.module, full)
            if replaced is not None:
                full = replaced if isinstance(replaced, tuple) else (replaced,)
        self.grad_output = full
        if not self.inputs:  # no input leads further back, so the hooks run here
            self._run_hooks((None,) * self.arguments)
        return tuple(full[i] for i in self.outputs)

    def _on_grad_input(self, grads: tuple) -> tuple:
        if self.silent:
            return grads
        full = self._run_hooks(_spread(grads, self.inputs, self.arguments))
        return tuple(full[i] for i in self.inputs)

    def _run_hooks(self, grad_input: tuple) -> tuple:
        for hook in _entries(self.module, "_backward_hooks").values():
            replaced = hook(self.module, grad_input, self.grad_output)
            if replaced is not None:
                replaced = replaced if isinstance(replaced, tuple) else (replaced,)
                if len(replaced) != len(grad_input):
                    raise RuntimeError(
                        "full backward hook must return as many gradients as the module has inputs: "
                        f"got {len(replaced)}, expected {len(grad_input)}"
                    )
                grad_input = replaced
        return grad_input


def _spread(values: tuple, places: list[int], count: int) -> tuple:
    full: list[Any] = [None] * count
    for i, value in zip(places, values):
        full[i] = value
    return tuple(full)


_tap_class: Any = None


def _tap_function() -> Any:
    """The identity function with a callback in backward; made on first use."""
    global _tap_class
    if _tap_class is None:
        from fluxion.autograd import Function

        class Tap(Function):
            @staticmethod
            def forward(ctx: Any, callback: Callable, *tensors: Tensor) -> tuple:
                ctx.callback = callback
                return tensors

            @staticmethod
            def backward(ctx: Any, *grads: Tensor) -> tuple:
                return (None, *ctx.callback(grads))

        _tap_class = Tap
    return _tap_class


def note_module_path(module: Module, error: BaseException) -> None:
    """Keeps one note on `error`: the path from the outermost module called to the innermost that failed.

    Called by each `Module.__call__` that the error passes; costs nothing unless something fails.
    """
    inner, path, note = getattr(error, "_module_path", (None, "", ""))
    if inner is module:
        return
    if inner is not None:
        prefix = next((name for name, m in module.named_modules() if m is inner), None)
        if not prefix:
            return
        path = f"{prefix}.{path}" if path else prefix
    notes = getattr(error, "__notes__", [])
    if note in notes:
        notes.remove(note)
    note = f"[{path or type(module).__name__}]"
    try:
        error.add_note(note)  # type: ignore[attr-defined]
        error._module_path = (module, path, note)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):  # an exception class without attributes
        pass
