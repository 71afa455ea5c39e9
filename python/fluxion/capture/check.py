"""`compile(check=True)`: run the trace and eager from the same state, and compare every bit."""

from __future__ import annotations

from fluxion import _C, Tensor, default_generator

from .trace import BUSY, MISS
from .tree import flatten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .trace import Trace

__all__ = ["checked"]


def _same_bits(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return _C._same_bits(a.detach().contiguous(), b.detach().contiguous())
    return type(a) is type(b) and (a == b or (a != a and b != b))


class _State:
    """Everything that a trace may write: a copy, and the way back."""

    def __init__(self, trace: Trace) -> None:
        self.memories = [(m, m.clone()) for _, m, written in trace.captured.slots() if written]
        self.grads = [
            (p, p.grad, None if p.grad is None else p.grad.clone())
            for p in trace._state_tensors()
            if p.requires_grad and p.is_leaf
        ]
        self.arguments = [(t, t.clone()) for t in trace.current if not t.requires_grad]
        self.random = default_generator.get_state()
        self.places = [(place, place.get()) for place, _, _ in trace.writes]

    def restore(self) -> None:
        with _C.no_grad():
            for memory, copy in (*self.memories, *self.arguments):
                memory.copy_(copy)
            for leaf, grad, copy in self.grads:
                if grad is not None:
                    grad.copy_(copy)
                leaf.grad = grad
        default_generator.set_state(self.random)
        for place, value in self.places:
            place.set(value)

    def now(self, trace: Trace) -> list[tuple[str, Any]]:
        """Names and values of everything a run may have changed."""
        found = [(f"written state {i}", m.clone()) for i, (m, _) in enumerate(self.memories)]
        for i, (leaf, _, _) in enumerate(self.grads):
            found.append(
                (f".grad of state tensor {i}", None if leaf.grad is None else leaf.grad.clone())
            )
        found += [(f"argument {i}", t.clone()) for i, (t, _) in enumerate(self.arguments)]
        found.append(("the random generator", default_generator.get_state().clone()))
        for place, _ in self.places:
            value = place.get()
            found.append((str(place), value.clone() if isinstance(value, Tensor) else value))
        return found


def checked(name: str, trace: Trace, leaves: list[Any], eager: Callable[[], Any]) -> Any:
    """Runs both ways; returns eager's results and leaves eager's state. Raises RuntimeError where a bit differs."""
    trace.current = [leaves[i] for i in trace.tensor_index]
    state = _State(trace)
    result = trace.run(leaves)
    if result is MISS or result is BUSY:
        return result
    compiled: list[Any] = []
    flatten(result, compiled, lambda v: not isinstance(v, (tuple, list, dict)))
    compiled = [v.clone() if isinstance(v, Tensor) else v for v in compiled]
    after = state.now(trace)
    state.restore()
    result = eager()
    wanted: list[Any] = []
    flatten(result, wanted, lambda v: not isinstance(v, (tuple, list, dict)))
    different = [
        f"result {i}"
        for i, (a, b) in enumerate(zip(compiled, wanted, strict=False))
        if not _same_bits(a, b)
    ]
    if len(compiled) != len(wanted):
        different.append("the number of results")
    different += [
        what
        for (what, a), (_, b) in zip(after, state.now(trace), strict=True)
        if not _same_bits(a, b)
    ]
    if different:
        raise RuntimeError(
            f"compile(check=True): {name} computes other bits when it is repeated: {', '.join(different)}. It depends "
            "on something that capture does not see (a file, the clock, another module's globals, random numbers of "
            "Python or NumPy?); pass it as an argument, or keep it in an attribute"
        )
    return result
