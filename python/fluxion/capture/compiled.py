"""`compile`: a function, method, module or whole training step that captures itself."""

from __future__ import annotations

import functools
import warnings

from fluxion import _C, Tensor
from fluxion.nn import Module

from .trace import BUSY, MISS, Trace
from .tree import flatten, signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Compiled", "compile"]

_MOST_TRACES = 16


def compile(
    function: Callable | None = None,
    *,
    check: bool = False,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = None,
    mode: str | None = None,
    options: dict | None = None,
    disable: bool = False,
) -> Any:
    """Captures what `function` computes and repeats it without Python, with eager's bits.

    The first call runs as always and is written down; later calls with arguments of the same types run the plan.
    Everything that the function reads and writes is part of it: parameters, gradients, buffers, optimizer state,
    random numbers, attributes, learning rates. Another path through Python (another shape, a value in an `if`)
    is captured as another trace. Use it as a function or as a decorator, on functions, methods, modules and
    training steps; `explain()` of the result says what was captured and why again.

    Args:
        function: any callable.
        check: run eager as well at every call and compare every bit of results and state.
        disable: return the function as it is.
        fullgraph, dynamic, backend, mode, options: accepted as in PyTorch, without effect.

    Returns:
        A callable of the same signature.

    Raises:
        RuntimeError: with `check`, where a bit differs (the function depends on something that was not seen).

    Example:
        >>> import fluxion
        >>> f = fluxion.compile(lambda x: fluxion.relu(x) * 2)
        >>> f(fluxion.tensor([-1.0, 3.0]))
        tensor([0., 6.])
        >>> f(fluxion.tensor([5.0, -2.0]))
        tensor([10.,  0.])
    """
    if function is None:
        return functools.partial(compile, check=check, disable=disable)
    if disable:
        return function
    return Compiled(function, check)


class Compiled:
    """A captured callable; see `compile`."""

    def __init__(self, function: Callable, check: bool = False) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._check = check
        self._traces: dict[Any, list[Trace]] = {}
        self._dynamic: dict[Any, set] = {}
        self._log: list[str] = []
        self._hot: Trace | None = (
            None  # the newest trace, if it takes and gives nothing but tensors
        )
        self._eager: str = ""  # why the function is not captured any more

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or not isinstance(self.__dict__.get("_function"), Module):
            object.__setattr__(self, name, value)
        else:
            setattr(self._function, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """A compiled module passes for its module."""
        function = self.__dict__.get("_function")
        return type(function) if isinstance(function, Module) else Compiled

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hot = self._hot
        if hot is not None and not kwargs and len(args) == hot.count:
            if _C._all_tensors(args, hot.grad_enabled):
                result = hot.run_direct(args)
                if result is BUSY:
                    return self._function(*args)
                if result is not MISS:
                    return result
        if self._eager or _C._is_tracing():
            return self._function(*args, **kwargs)
        leaves: list[Any] = []
        structure = flatten(
            (args, kwargs), leaves, lambda v: isinstance(v, Tensor) or type(v) in (int, float)
        )
        key = (signature(structure), _C.is_grad_enabled())
        traces = self._traces.setdefault(key, [])
        reasons = []
        for trace in reversed(traces):
            result = (
                trace.run(leaves) if not self._check else self._checked(trace, leaves, args, kwargs)
            )
            if result is BUSY:
                return self._function(*args, **kwargs)
            if result is not MISS:
                return result
            reasons.append(trace)
        return self._trace(key, args, kwargs, reasons, leaves)

    def _trace(
        self, key: Any, args: tuple, kwargs: dict, tried: list[Trace], leaves: list[Any]
    ) -> Any:
        dynamic = self._dynamic.setdefault(key, set())
        why = tried[0].why if tried else ""
        for trace in tried:
            self._learn(trace, dynamic, leaves)
        if len(self._traces[key]) >= _MOST_TRACES:
            self._eager = f"traced {_MOST_TRACES} times and still another path: {why}"
            warnings.warn(
                f"compile: {self._name()}: {self._eager}; it runs eagerly from now on", stacklevel=3
            )
            return self._function(*args, **kwargs)
        trace = Trace(self._function, set(dynamic))
        result = trace.record(args, kwargs)
        self._log.append(why or "first call")
        if trace.reusable:
            self._traces[key].append(trace)
            self._hot = trace if trace.direct and not self._check else None
        else:
            self._log[-1] += f" (not kept: {trace.why})"
        return result

    def _learn(self, trace: Trace, dynamic: set, leaves: list[Any]) -> None:
        """Numbers that changed since a trace become inputs of the next."""
        for place, expected in trace.conditions:
            if (
                type(expected) in (int, float)
                and type(place.get()) is type(expected)
                and place.get() != expected
            ):
                dynamic.add(place.id)
        for i, (now, then) in enumerate(zip(leaves, trace.argument_leaves, strict=True)):
            if type(then) in (int, float) and type(now) is type(then) and now != then:
                dynamic.add(("argument", i))

    def _checked(self, trace: Trace, leaves: list[Any], args: tuple, kwargs: dict) -> Any:
        from .check import checked

        return checked(self._name(), trace, leaves, lambda: self._function(*args, **kwargs))

    def _name(self) -> str:
        return getattr(self._function, "__qualname__", type(self._function).__name__)

    def explain(self) -> str:
        """What was captured, in text: each trace with its calls, steps and memory, and why it was made."""
        kept = [t for traces in self._traces.values() for t in traces]
        lines = [f"{self._name()}: {len(self._log)} traces, {len(kept)} kept"]
        lines += [f"  trace {i}: {why}" for i, why in enumerate(self._log)]
        for trace in kept:
            s = trace.captured.statistics()
            lines.append(
                f"  {trace.calls} calls, {s['steps']} steps, arena {s['arena_bytes']} bytes "
                f"({s['live_bytes']} live at most)"
            )
        if self._eager:
            lines.append(f"  runs eagerly: {self._eager}")
        return "\n".join(lines)
