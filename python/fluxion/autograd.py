"""Differentiation: `grad`, `backward`, functions with a gradient of their own, and the gradient modes."""

from __future__ import annotations

from fluxion import _C
from fluxion._C import (
    Tensor,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Tensors = Tensor | Sequence[Tensor]
    OptTensors = Tensor | Sequence[Tensor | None] | None

__all__ = [
    "Function",
    "backward",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "once_differentiable",
    "set_grad_enabled",
]


def _sequence(tensors: Any) -> tuple:
    return (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)


def _gradients(given: OptTensors, outputs: tuple) -> tuple:
    if given is None:
        return (None,) * len(outputs)
    gradients = _sequence(given)
    if len(gradients) != len(outputs):
        raise RuntimeError(
            f"got {len(outputs)} tensors and {len(gradients)} gradients; give one for each, or None"
        )
    return gradients


def backward(
    tensors: Tensors,
    grad_tensors: OptTensors = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensors | None = None,
) -> None:
    """Accumulates the gradients of the tensors into `.grad` of every leaf, or of `inputs` only.

    `grad_tensors` are the gradients to start from; None means 1 for a one-element tensor.
    """
    outputs = _sequence(tensors)
    keep = create_graph if retain_graph is None else retain_graph
    wanted = () if inputs is None else _sequence(inputs)
    if inputs is not None and not wanted:
        raise RuntimeError("backward: inputs must not be empty; leave it out for all leaves")
    _C._backward(outputs, _gradients(grad_tensors, outputs), keep, create_graph, wanted)


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: OptTensors = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of outputs with respect to inputs; `.grad` stays untouched.

    Raises RuntimeError for an input that the outputs do not depend on, unless `allow_unused` (then None)
    or `materialize_grads` (then zeros).
    """
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: materialize_grads=True needs allow_unused=True or None")
    ys, xs = _sequence(outputs), _sequence(inputs)
    keep = create_graph if retain_graph is None else retain_graph
    unused = materialize_grads or bool(allow_unused)
    found = _C._grad(ys, xs, _gradients(grad_outputs, ys), keep, create_graph, unused)
    if not materialize_grads:
        return found
    return tuple(_C.zeros_like(x) if g is None else g for x, g in zip(xs, found, strict=True))


class FunctionContext:
    """What `forward` leaves for `backward`: saved tensors and any attributes."""

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._to_save: tuple = ()
        self._saved: tuple | None = ()
        self._node: Any = None  # only while backward runs: the node owns this context
        self._dirty: tuple = ()
        self._non_differentiable: tuple = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Saves inputs or outputs; their values now are what `saved_tensors` gives later."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward() takes Tensors and None, not {type(t).__name__}; "
                    "keep other values as attributes of ctx"
                )
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors of `save_for_backward`."""
        if self._saved is None:
            raise RuntimeError(
                "saved_tensors: the graph was freed by an earlier backward pass. "
                "Pass retain_graph=True to the first one to go through it again"
            )
        return tuple(None if s is None else _C._unpack(s, self._node) for s in self._saved)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Inputs that `forward` changed in place; they must be returned."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Outputs that get no history."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """False: gradients that are zero reach `backward` as None. Default True: as zeros."""
        self._materialize = value

    def _freeze(self, tracked: tuple) -> None:
        """Saves; outputs by their number, so that the node does not own itself."""
        slots = {id(t): i for i, t in enumerate(tracked)}
        self._saved = tuple(
            None if t is None else _C._save(t, slots.get(id(t), -1)) for t in self._to_save
        )
        self._to_save = ()

    def _release(self) -> None:
        self._saved = None


def _contains(tensors: tuple, t: Any) -> bool:
    return any(t is x for x in tensors)


class Function:
    """An operation with a gradient of its own: subclass it, call `apply`.

    `forward(ctx, *args)` computes the result, `backward(ctx, *grads)` returns one gradient (or None) per
    argument of `forward`. Instead of `ctx` in `forward` there may be a static
    `setup_context(ctx, inputs, output)`.

        class Exp(Function):
            @staticmethod
            def forward(ctx, x):
                y = x.exp()
                ctx.save_for_backward(y)
                return y

            @staticmethod
            def backward(ctx, grad):
                (y,) = ctx.saved_tensors
                return grad * y

        y = Exp.apply(x)
    """

    setup_context: Callable | None = None

    def __init__(self) -> None:
        raise TypeError(f"use {type(self).__name__}.apply(...), a Function has no objects")

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a Function needs a static method forward")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("a Function needs a static method backward to be differentiated")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs `forward` and puts it on the tape."""
        ctx = FunctionContext()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        record = is_grad_enabled() and any(ctx.needs_input_grad)
        with no_grad():
            if cls.setup_context is None:
                result = cls.forward(ctx, *args)
            else:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
        if not record:
            return result
        if isinstance(result, Tensor):
            return _record(cls, ctx, args, (result,))[0]
        outputs = _record(cls, ctx, args, tuple(result))
        return list(outputs) if isinstance(result, list) else outputs


def _output(ctx: FunctionContext, t: Any, inputs: tuple) -> Any:
    """An output as the caller gets it: never an input, unless that was changed in place."""
    if not isinstance(t, Tensor):
        return t
    if not _contains(inputs, t):
        return t.detach() if t.requires_grad else t
    if not _contains(ctx._dirty, t):
        return t.detach()
    if t.is_leaf and t.requires_grad:
        raise RuntimeError("mark_dirty: a leaf tensor that requires grad was changed in place")
    return t


def _record(cls: type[Function], ctx: FunctionContext, args: tuple, result: tuple) -> tuple:
    inputs = tuple(a for a in args if isinstance(a, Tensor))
    outputs = tuple(_output(ctx, t, inputs) for t in result)
    tracked = tuple(
        t
        for t, original in zip(outputs, result, strict=True)
        if isinstance(t, Tensor)
        and t.is_floating_point()
        and not _contains(ctx._non_differentiable, original)
    )
    ctx._freeze(tracked)
    ctx._dirty = ctx._non_differentiable = ()  # an output that the context held would own itself
    in_types = [(a.shape, a.dtype) if isinstance(a, Tensor) else None for a in args]
    out_types = [(t.shape, t.dtype) if isinstance(t, Tensor) else None for t in outputs]
    slots = [next((k for k, x in enumerate(tracked) if x is t), None) for t in outputs]

    def run(node: Any, grads: tuple) -> list:
        given = [None if k is None else grads[k] for k in slots]
        if ctx._materialize:
            given = [
                _C.zeros(kind[0], dtype=kind[1]) if g is None and kind else g
                for g, kind in zip(given, out_types, strict=True)
            ]
        ctx._node = node
        try:
            found = cls.backward(ctx, *given)
        finally:
            ctx._node = None
        return _check_gradients(cls.__name__, found, in_types)

    if tracked:
        _C._record_function(cls.__name__ + "Backward", run, ctx._release, inputs, tracked)
    return outputs


def _check_gradients(name: str, found: Any, in_types: list) -> list:
    """The gradients of the tensor arguments, each of its argument's shape and dtype."""
    gradients = list(found) if isinstance(found, (tuple, list)) else [found]
    while len(gradients) > len(in_types) and gradients[-1] is None:
        gradients.pop()
    if len(gradients) != len(in_types):
        raise RuntimeError(
            f"{name}.backward returned {len(gradients)} gradients, but forward has {len(in_types)} arguments; "
            "return one for each, None where there is none"
        )
    checked = []
    for i, (g, kind) in enumerate(zip(gradients, in_types, strict=True)):
        if kind is None:
            if g is not None:
                raise RuntimeError(
                    f"{name}.backward returned a gradient for argument {i}, which is not a Tensor"
                )
            continue
        if g is not None and not isinstance(g, Tensor):
            raise TypeError(
                f"{name}.backward must return Tensors or None, argument {i} got {type(g).__name__}"
            )
        if g is not None and g.shape != kind[0]:
            try:
                g = g.sum_to_size(kind[0])
            except RuntimeError:
                raise RuntimeError(
                    f"{name}.backward returned a gradient of shape {tuple(g.shape)} for argument {i} "
                    f"of shape {tuple(kind[0])}"
                ) from None
        checked.append(g if g is None or g.dtype is kind[1] else g.to(kind[1]))
    return checked


def once_differentiable(backward: Callable) -> Callable:
    """A decorator for a `backward` that works on values only: its results cannot be differentiated again."""
    from functools import wraps

    @wraps(backward)
    def inside(ctx: FunctionContext, *grads: Any) -> Any:
        with no_grad():
            return backward(ctx, *grads)

    return inside
