"""One trace of a function: what it computed, which state it read and wrote, and when it may be used again."""

from __future__ import annotations

import os
import sys

from fluxion import _C, Tensor, _epoch

from .numbers import Number, patched_math
from .places import SCALARS, Place, walk
from .tree import Leaf, flatten, rebuild

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["BUSY", "MISS", "Trace"]

MISS = object()
BUSY = object()  # another thread runs the trace
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _storage(tensor: Tensor) -> int:
    """The address of a tensor's memory."""
    return tensor.data_ptr() - tensor.storage_offset() * tensor.element_size()


def _is_scalar(value: Any) -> bool:
    return type(value) in (int, float)


def _same(value: Any, expected: Any) -> bool:
    """Whether a scalar is the same for a trace: type and value, NaN and -0.0 told apart."""
    return type(value) is type(expected) and (
        value == expected and str(value) == str(expected)
        if type(value) is float
        else value == expected
    )


class Locator:
    """The user's line and module while tracing."""

    def __init__(self, places: list[Place]) -> None:
        from fluxion.nn import Module

        self.names: dict[int, str] = {}
        roots = [p.get() for p in places]
        for place, value in zip(places, roots, strict=True):
            if isinstance(value, Module):
                for name, module in value.named_modules(prefix=place.path):
                    self.names.setdefault(id(module), name)

    def __call__(self) -> tuple[str, int, str]:
        frame = sys._getframe()
        module = ""
        while frame is not None:
            code = frame.f_code
            if not module and code.co_name == "forward":
                module = self.names.get(id(frame.f_locals.get("self")), "")
            if not code.co_filename.startswith(_PACKAGE):
                return code.co_filename, frame.f_lineno, module
            frame = frame.f_back
        return "", 0, module


class Trace:
    """A path of a function through Python, captured. `run()` repeats it, or says MISS."""

    def __init__(self, function: Callable, dynamic: set) -> None:
        self.function = function
        self.dynamic = dynamic  # ids of places (and argument numbers) whose numbers change
        self.leaves: list[tuple[str, Any]] = []  # ("place", Place) | ("argument", i) | ("item", i)
        self.decisions: list[tuple[Number, Any]] = []
        self.inputs: list[tuple[Number, Tensor]] = []  # numbers that are inputs of the graph
        self.items: list[Tensor] = []
        self.reusable = True
        self.why = ""
        self.calls = 0

    # Recording

    def record(self, args: tuple, kwargs: dict) -> Any:
        """Runs the function as eager does and writes it down; returns what it returned."""
        self._flatten_arguments(args, kwargs)
        places = walk(
            self.function, [v for v in (*args, *kwargs.values()) if not isinstance(v, Tensor)]
        )
        before = {p.id: p.get() for p in places}
        self.places, self.before = places, before
        self.sizes = {k: len(v) for k, v in before.items() if isinstance(v, (list, dict))}
        self.recorder = recorder = _C._Recorder(Locator(places))
        for i, tensor in enumerate(self.tensors):
            recorder.argument(tensor, f"x{i}")
        injected = self._inject(places)
        given_args, given_kwargs = self._given()
        active.append(self)
        try:
            recorder.start()
            with patched_math():
                out = self.function(*given_args, **given_kwargs)
        except BaseException:
            recorder.stop()
            active.pop()
            self._settle_numbers(walk(self.function), injected, before)
            raise
        recorder.stop()
        active.pop()
        return self._finish(out, injected)

    def _flatten_arguments(self, args: tuple, kwargs: dict) -> None:
        leaves: list[Any] = []
        self.structure = flatten(
            (args, kwargs), leaves, lambda v: isinstance(v, Tensor) or _is_scalar(v)
        )
        self.argument_leaves = leaves
        self.tensors: list[Tensor] = []
        self.tensor_index: list[int] = []
        known: dict[int, int] = {}
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and id(leaf) not in known:
                known[id(leaf)] = len(self.tensors)
                self.tensors.append(leaf)
                self.tensor_index.append(i)
        self.alias_of = [known.get(id(leaf), -1) for leaf in leaves]

    def _given(self) -> tuple[tuple, dict]:
        leaves = [
            self._leaf("argument", i, leaf)
            if _is_scalar(leaf) and ("argument", i) in self.dynamic
            else leaf
            for i, leaf in enumerate(self.argument_leaves)
        ]
        return rebuild(self.structure, leaves)

    def _leaf(self, kind: str, where: Any, value: Any) -> Number:
        self.leaves.append((kind, where))
        return Number(self, value, None, (len(self.leaves) - 1,))

    def _inject(self, places: list[Place]) -> dict:
        """Numbers that change stand in for themselves while the function runs."""
        injected = {}
        for place in places:
            value = place.get()
            changes = (
                place.id in self.dynamic
                or getattr(place.container, "lifted", ())
                and place.key in place.container.lifted
            )
            if changes and _is_scalar(value):
                number = self._leaf("place", place, value)
                injected[place.id] = (place, value, number)
                place.set(number)
        return injected

    def tensor_of(self, number: Number) -> Tensor:
        for known, tensor in self.inputs:
            if known is number:
                return tensor
        if self._late(number):
            return self._late_tensor(number)
        tensor = self.recorder.number(number.value)
        self.inputs.append((number, tensor))
        return tensor

    def _late_tensor(self, number: Number) -> Tensor:
        """A number computed from tensors of this run: the same arithmetic on 0-dim float64 tensors."""
        if number.function is None:
            return self.items[self.leaves[number.args[0]][1]].detach().double()
        args = [self.tensor_of(a) if isinstance(a, Number) else a for a in number.args]
        return number.function(*args)

    def _late(self, number: Any) -> bool:
        """Whether a number is known only after the run."""
        if not isinstance(number, Number):
            return False
        if number.function is None:
            return self.leaves[number.args[0]][0] == "item"
        return any(self._late(a) for a in number.args)

    def decide(self, number: Number) -> Any:
        if all(known is not number for known, _ in self.decisions):
            self.decisions.append((number, number.value))
        return number.value

    def item(self, tensor: Tensor) -> Number:
        """What tensor.item() gives while tracing."""
        self.items.append(tensor.detach())
        with _paused(self.recorder):
            value = tensor.item()
        return self._leaf("item", len(self.items) - 1, value)

    # What remains of a run

    def _settle_numbers(self, places: list[Place], injected: dict, before: dict) -> None:
        for place in places:
            value = place.get()
            if isinstance(value, Number):
                place.set(value.value)

    def _finish(self, out: Any, injected: dict) -> Any:
        after = walk(self.function, [v for v in self.argument_leaves if not isinstance(v, Tensor)])
        results: list[Any] = []
        structure = flatten(out, results, lambda v: isinstance(v, (Tensor, Number)))
        self.writes: list[tuple[Place, Any, list]] = []  # place, structure, leaves
        self.rebound: set = set()
        tensors: list[Tensor] = []
        self.results = self._note_results(results, tensors)
        for place in after:
            self._note_write(place, injected, tensors)
        vanished = {p.id for p in self.places} - {p.id for p in after}
        if vanished:
            self._once(
                "state vanished: " + ", ".join(str(p) for p in self.places if p.id in vanished)
            )
        self.result_structure = structure
        self.needs_gradient = any(t.requires_grad for t in tensors)
        self.item_base = len(tensors)
        if self.reusable and not self.needs_gradient:
            self._check_survivors(tensors)
        self.captured = self.recorder.finish([*tensors, *self.items])
        del self.recorder
        self._bind_slots()
        self._compile_numbers()
        self._choose_path()
        self.epoch = _epoch.value
        self.items = []
        value = rebuild(structure, [r.value if isinstance(r, Number) else r for r in results])
        return value

    def _once(self, why: str) -> None:
        self.reusable, self.why = False, self.why or why

    def _note_write(self, place: Place, injected: dict, tensors: list[Tensor]) -> None:
        value = place.get()
        if place.id in injected and value is injected[place.id][2]:
            place.set(injected[place.id][1])  # not written
            return
        if isinstance(value, Number):
            place.set(value.value)
        if place.parent and place.parent.id in self.rebound:
            self.rebound.add(place.id)  # written with the whole
            return
        if place.id not in self.before:
            if not isinstance(value, SCALARS) or isinstance(value, Tensor):
                self._once(f"state appeared: {place}")
            return
        before = self.before[place.id]
        if value is before or (isinstance(value, SCALARS) and _same(value, before)):
            return
        if isinstance(value, (Number, Tensor, list, dict, tuple, *SCALARS)):
            leaves: list[Any] = []
            structure = flatten(value, leaves, lambda v: isinstance(v, (Number, Tensor)))
            self.rebound.add(place.id)
            self.writes.append((place, structure, self._note_results(leaves, tensors)))
        else:
            self._once(f"{place} was bound to another {type(value).__name__}")

    def _note_results(self, leaves: list[Any], tensors: list[Tensor]) -> list[tuple[str, Any]]:
        """("tensor", index among the results) or ("number", expression) of each leaf."""
        noted: list[tuple[str, Any]] = []
        for leaf in leaves:
            if isinstance(leaf, Number):
                noted.append(("number", leaf))
                continue
            known = next((k for k, t in enumerate(tensors) if t is leaf), None)
            if known is None:
                known = len(tensors)
                tensors.append(leaf)
            noted.append(("tensor", known))
        return noted

    def _check_survivors(self, tensors: list[Tensor]) -> None:
        """A tensor of the trace that lives on outside of every place would be stale in the next run."""
        known = [*tensors, *self.items, *(t for _, t in self.inputs)]
        known += [p.grad for p in self._state_tensors() if p.grad is not None]
        left = self.recorder.survivors(known)
        if left:
            self._once("a tensor made inside lives on: " + _holder_of(left[0]))

    def _state_tensors(self) -> list[Tensor]:
        return [v for v in (p.get() for p in self.places) if isinstance(v, Tensor)]

    def _bind_slots(self) -> None:
        """Which place each slot of the graph came from; conditions on all the others."""
        by_memory = {}
        for place in self.places:
            value = self.before[place.id]
            if isinstance(value, Tensor):
                by_memory.setdefault(_storage(value), place)
        self.slots = {}  # place id -> (input, memory)
        for index, memory, _ in self.captured.slots():
            place = by_memory.get(_storage(memory))
            if place is not None:
                self.slots[place.id] = (index, memory)
        written = {p.id for p, _, _ in self.writes}
        self.conditions = [
            (p, self.before[p.id])
            for p in self.places
            if not any(kind == "place" and where.id == p.id for kind, where in self.leaves)
            and not (
                p.id in written and p.id not in self.slots and isinstance(self.before[p.id], Tensor)
            )
            and not (p.parent and p.parent.id in self.rebound)
        ]

        self.loose = [c for c in self.conditions if not c[0].tracked]

    def _compile_numbers(self) -> None:
        """Expressions in the order of evaluation: those known before the run, those after."""
        self.order: list[Number] = []
        position: dict[int, int] = {}

        def visit(number: Any) -> None:
            if not isinstance(number, Number) or id(number) in position:
                return
            for arg in number.args if number.function else ():
                visit(arg)
            position[id(number)] = len(self.order)
            self.order.append(number)

        # Decisions first: behind one that falls otherwise, expressions need not make sense.
        roots = [n for n, _ in self.decisions] + [n for n, _ in self.inputs]
        written = [leaf for _, _, leaves in self.writes for leaf in leaves]
        roots += [n for kind, n in (*written, *self.results) if kind == "number"]
        for number in roots:
            visit(number)
        self.position = position
        self.early = [n for n in self.order if not self._late(n)]
        self.late = [n for n in self.order if self._late(n)]
        self.expected = {id(n): expected for n, expected in self.decisions}

    # Repeating

    def fits(self, conditions: list[tuple[Place, Any]]) -> str:
        """Why the state does not fit the trace any more; empty if it does."""
        for place, expected in conditions:
            value = place.get()
            if value is expected:
                continue
            if isinstance(expected, Tensor):
                if not isinstance(value, Tensor) or not self._rebind(place, value):
                    return f"{place} is another tensor"
            elif isinstance(expected, SCALARS):
                if not _same(value, expected):
                    return f"{place} is {value!r}, was {expected!r}"
            elif isinstance(expected, (list, dict)):
                if type(value) is not type(expected) or len(value) != self.sizes[place.id]:
                    return f"{place} has other items"
            else:
                return f"{place} is another {type(value).__name__}"
        return ""

    def _rebind(self, place: Place, value: Tensor) -> bool:
        slot = self.slots.get(place.id)
        if slot is None:
            return True  # never read
        index, memory = slot
        if _storage(value) == _storage(memory):
            return True
        if (
            value.shape != memory.shape
            or value.dtype != memory.dtype
            or value.stride() != memory.stride()
        ):
            return False
        self.captured.bind(index, value)
        self.slots[place.id] = (index, value.detach())
        return True

    def _choose_path(self) -> None:
        """Whether the trace is nothing but tensors in and out: then C++ does all of it."""
        only_tensors = self.tensor_index == list(range(len(self.argument_leaves)))
        flat = self.structure == (tuple(self.structure[0]), {}) and all(
            isinstance(leaf, Leaf) for leaf in self.structure[0]
        )
        self.direct = only_tensors and flat and not (self.order or self.decisions or self.writes)
        self.grad_enabled = _C.is_grad_enabled()
        self.single = isinstance(self.result_structure, Leaf) and self.results == [("tensor", 0)]
        self.count = len(self.argument_leaves)

    def run_direct(self, args: tuple) -> Any:
        """run() for a call with nothing but tensors."""
        epoch = _epoch.value
        if epoch != self.epoch:
            if self.fits(self.conditions):
                return MISS
            self.epoch = epoch
        elif self.loose and self.fits(self.loose):
            return MISS
        found = self.captured.run(args)
        if found is None or found is False:
            return MISS if found is None else BUSY
        self.calls += 1
        return (
            found[0]
            if self.single
            else rebuild(self.result_structure, [found[r] for _, r in self.results])
        )

    def evaluate(self, numbers: list[Number], values: dict, leaves: Callable) -> bool:
        """Whether every decision among the numbers falls as it fell in this trace."""
        for number in numbers:
            if number.function is None:
                value = leaves(*self.leaves[number.args[0]])
            else:
                args = (values[id(a)] if isinstance(a, Number) else a for a in number.args)
                value = number.function(*args)
            values[id(number)] = value
            if id(number) in self.expected and not _same(value, self.expected[id(number)]):
                expected = self.expected[id(number)]
                self.why = f"a number that decided the path is {value!r}, was {expected!r}"
                return False
        return True

    def run(self, leaves: list[Any]) -> Any:
        """Repeats the trace for arguments with these leaves (of equal structure), or MISS."""
        epoch = _epoch.value
        why = self.fits(self.loose if epoch == self.epoch else self.conditions)
        if why:
            self.why = why
            return MISS
        self.epoch = epoch
        for i, (now, then) in enumerate(zip(leaves, self.argument_leaves, strict=True)):
            if (
                not isinstance(then, Tensor)
                and ("argument", i) not in self.dynamic
                and not _same(now, then)
            ):
                self.why = f"argument {i} is {now!r}, was {then!r}"
                return MISS
        tensors = [leaves[i] for i in self.tensor_index]
        if any(leaves[i] is not tensors[k] for i, k in enumerate(self.alias_of) if k >= 0):
            self.why = "other arguments are the same tensor"
            return MISS
        values: dict[int, Any] = {}
        hidden: list[Tensor] = []

        def leaf(kind: str, where: Any) -> Any:
            if kind == "place":
                return where.get()
            return leaves[where] if kind == "argument" else hidden[self.item_base + where].item()

        if not self.evaluate(self.early, values, leaf):
            return MISS
        for number, tensor in self.inputs:
            _C._set_number(tensor, values[id(number)])
        found = self.captured.compute(tensors)
        if found is False:
            return BUSY
        if found is None:
            self.why = self.captured.why()
            return MISS
        hidden.extend(found)
        try:
            holds = self.evaluate(self.late, values, leaf)
        except BaseException:
            self.captured.discard()
            raise
        if not holds:
            self.captured.discard()
            return MISS
        self.captured.commit()
        self._commit_places(values, found)
        self.calls += 1
        results = [found[r] if kind == "tensor" else values[id(r)] for kind, r in self.results]
        return rebuild(self.result_structure, results)

    def _commit_places(self, values: dict, found: list[Tensor]) -> None:
        for place, structure, leaves in self.writes:
            place.set(
                rebuild(
                    structure,
                    [found[w] if kind == "tensor" else values[id(w)] for kind, w in leaves],
                )
            )


active: list[Trace] = []


class _paused:
    """The recorder looks away: a value is read that becomes a Number."""

    def __init__(self, recorder: Any) -> None:
        self.recorder = recorder

    def __enter__(self) -> None:
        self.recorder.stop()

    def __exit__(self, *_: object) -> None:
        self.recorder.start()


def _holder_of(tensor: Tensor) -> str:
    """Who holds memory that outlived its trace."""
    import gc

    at = _storage(tensor)
    for found in gc.get_objects():
        if isinstance(found, Tensor) and found is not tensor and _storage(found) == at:
            for holder in gc.get_referrers(found):
                if isinstance(holder, (list, dict, tuple, set)):
                    return f"a {type(holder).__name__} of {len(holder)} items holds it"
    return "an object of C++ (a graph for gradients?) holds it"


def _item_hook(tensor: Tensor) -> Any:
    return active[-1].item(tensor)


_C._set_capture_hooks(_item_hook, Number)
