"""Python numbers while a function is captured: they compute as always and remember how they came about.

A `Number` stands for a float, int or bool that may be another one at the next call: an attribute that changes, a
learning rate, `loss.item()`. Arithmetic on it builds an expression that later calls evaluate again. Where Python must
know the value (a branch, an index, a format), the value becomes a condition of the trace.
"""

from __future__ import annotations

import math
import operator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .trace import Trace

__all__ = ["Number", "patched_math"]


class Number:
    """A Python number of a running trace: its value in this run, and the expression that gives it in the next."""

    __slots__ = ("args", "function", "trace", "value")
    __hash__ = None  # type: ignore[assignment]  # a key of a dict would outlive the trace

    def __init__(
        self, trace: Trace, value: Any, function: Callable | None, args: tuple = ()
    ) -> None:
        self.trace = trace
        self.value = value
        self.function = function  # None: a leaf, args[0] is its index among the trace's leaves
        self.args = args

    def tensor(self) -> Any:
        """A 0-dim tensor that holds the number, as an input of the graph."""
        return self.trace.tensor_of(self)

    def decide(self) -> Any:
        """The value in this run; later runs must find the same one."""
        return self.trace.decide(self)

    def __bool__(self) -> bool:
        return bool(self.decide())

    def __float__(self) -> float:
        return float(self.decide())

    def __int__(self) -> int:
        return int(self.decide())

    def __index__(self) -> int:
        return operator.index(self.decide())

    def __complex__(self) -> complex:
        return complex(self.decide())

    def __repr__(self) -> str:
        return repr(self.decide())

    def __str__(self) -> str:
        return str(self.decide())

    def __format__(self, spec: str) -> str:
        return format(self.decide(), spec)


def _apply(function: Callable, *args: Any) -> Any:
    trace = next(a.trace for a in args if isinstance(a, Number))
    value = function(*(a.value if isinstance(a, Number) else a for a in args))
    return Number(trace, value, function, args)


def _binary(name: str) -> None:
    function = getattr(operator, name)

    def forward(self: Number, other: Any) -> Any:
        if isinstance(other, (int, float, Number)):
            return _apply(function, self, other)
        return _with_tensor(function, self.tensor, other, False)

    def backward(self: Number, other: Any) -> Any:
        if isinstance(other, (int, float)):
            return _apply(function, other, self)
        return _with_tensor(function, self.tensor, other, True)

    plain = name.strip("_")
    setattr(Number, f"__{plain}__", forward)
    setattr(Number, f"__r{plain}__", backward)


def _with_tensor(function: Callable, number: Callable, other: Any, reflected: bool) -> Any:
    from fluxion import Tensor

    if not isinstance(other, Tensor):
        return NotImplemented
    return function(other, number()) if reflected else function(number(), other)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _binary(_name)
for _name in ("and_", "or_", "xor", "lshift", "rshift"):
    _binary(_name)


def _comparison(name: str) -> None:
    function = getattr(operator, name)

    def compare(self: Number, other: Any) -> Any:
        if isinstance(other, (int, float, Number)):
            return _apply(function, self, other)
        return _with_tensor(function, self.tensor, other, False)

    setattr(Number, f"__{name}__", compare)


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name)


def _unary(name: str, function: Callable) -> None:
    setattr(Number, name, lambda self, *args: _apply(function, self, *args))


_unary("__neg__", operator.neg)
_unary("__pos__", operator.pos)
_unary("__abs__", abs)
_unary("__round__", round)
_unary("__trunc__", math.trunc)
_unary("__floor__", math.floor)
_unary("__ceil__", math.ceil)
_unary("__invert__", operator.invert)
_unary("is_integer", lambda v: float(v).is_integer())


def _lifted(original: Callable) -> Callable:
    def call(*args: Any, **keywords: Any) -> Any:
        if any(isinstance(a, Number) for a in args):
            return _apply(original, *args)
        return original(*args, **keywords)

    return call


_ORIGINALS = {n: f for n, f in vars(math).items() if not n.startswith("_") and callable(f)}
_LIFTED = {name: _lifted(original) for name, original in _ORIGINALS.items()}


class patched_math:
    """While entered, the functions of `math` accept Numbers and remember what they computed."""

    def __enter__(self) -> None:
        vars(math).update(_LIFTED)

    def __exit__(self, *_: object) -> None:
        vars(math).update(_ORIGINALS)
