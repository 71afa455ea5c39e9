"""Checkpoints: everything a training run needs to go on with the same bits."""

from __future__ import annotations

import os
import sys

from fluxion import Tensor, get_rng_state, set_rng_state
from fluxion.serialization import async_save, load, save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

    Path = str | os.PathLike[str]

__all__ = ["load_checkpoint", "save_checkpoint"]

_KEY = "checkpoint"  # its value is the version of the layout
_VERSION = 1


def save_checkpoint(
    path: Path,
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    loader: Any = None,
    rng: bool = True,
    gradients: bool = False,
    extra: Any = None,
    background: bool = False,
) -> Future[None] | None:
    """Writes the state of a training run to a safetensors file; `load_checkpoint` goes on from it with the same bits.

    `model`, `optimizer`, `scheduler` and `loader` are objects with a `state_dict`, or dicts and lists of such objects.
    `rng` adds the state of the random generators of Fluxion, Python and (if it was imported) NumPy; `gradients` the
    `.grad` of the model's parameters, for a run that accumulates them; `extra` is anything that `save` takes. A loader
    knows its place in the middle of a pass. The file replaces an older one when it is complete and on the disk: a
    crash at any moment leaves the one or the other. With `background=True` it gets the state as of the call while
    training goes on; the result is a Future, and checkpoints are written in the order of the calls.

    Raises OSError if the file can't be written (a full disk), TypeError for what can't be saved.
    """
    parts: dict[str, Any] = {_KEY: _VERSION}
    given = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    for name, value in given.items():
        if value is not None:
            parts[name] = _state(value, name)
    if gradients:
        parts["gradients"] = _gradients(model)
    if rng:
        parts["rng"] = _rng_state()
    parts["extra"] = extra
    if background:
        return async_save(parts, path)
    save(parts, path)
    return None


def load_checkpoint(
    path: Path,
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    loader: Any = None,
    rng: bool = True,
) -> Any:
    """Restores what `save_checkpoint` wrote into these objects, and returns its `extra`.

    The objects must be made as the saved ones were. What the file has beyond them is left alone; what it lacks
    raises ValueError before anything is changed. `rng=False` leaves the random generators as they are.
    """
    parts = load(path)
    if not isinstance(parts, dict) or not isinstance(parts.get(_KEY), int):
        raise ValueError(
            f"load_checkpoint: {os.fspath(path)} was not written by save_checkpoint; use load"
        )
    if parts[_KEY] != _VERSION:
        raise ValueError(
            f"load_checkpoint: {os.fspath(path)} has version {parts[_KEY]}, known is {_VERSION}; "
            "it was written by a newer Fluxion"
        )
    given = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    wanted = [name for name, value in given.items() if value is not None] + ["rng"] * rng
    missing = [name for name in wanted if name not in parts]
    if missing:
        there = ", ".join(name for name in parts if name not in (_KEY, "extra")) or "no state"
        raise ValueError(
            f"load_checkpoint: {os.fspath(path)} has no {', '.join(missing)}; it has {there}"
        )
    for name, value in given.items():
        if value is not None:
            _restore(value, parts[name], name)
    if model is not None and "gradients" in parts:
        _set_gradients(model, parts["gradients"])
    if rng:
        _set_rng_state(parts["rng"])
    return parts["extra"]


def _state(value: Any, name: str) -> Any:
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, dict):
        return {key: _state(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_state(item, f"{name}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"save_checkpoint: {name} has no state_dict: {type(value).__name__}")


def _restore(value: Any, state: Any, name: str) -> None:
    if hasattr(value, "load_state_dict"):
        value.load_state_dict(state)
        return
    if not isinstance(value, (dict, list, tuple)):
        raise TypeError(f"load_checkpoint: {name} has no load_state_dict: {type(value).__name__}")
    if len(value) != len(state):
        raise ValueError(f"load_checkpoint: {name} has {len(value)} items, the file {len(state)}")
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        _restore(item, state[key], f"{name}[{key!r}]")


# Gradients, by the names of the parameters


def _parameters(model: Any) -> dict[str, Tensor]:
    if not hasattr(model, "named_parameters"):
        raise TypeError(
            f"save_checkpoint: gradients=True needs a Module as model, got {type(model).__name__}"
        )
    return dict(model.named_parameters())


def _gradients(model: Any) -> dict[str, Tensor]:
    return {n: p.grad for n, p in _parameters(model).items() if p.grad is not None}


def _set_gradients(model: Any, gradients: dict[str, Tensor]) -> None:
    for name, parameter in _parameters(model).items():
        gradient = gradients.get(name)
        parameter.grad = None if gradient is None else gradient.clone()


# Random generators


def _rng_state() -> dict[str, Any]:
    import random

    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "default": get_rng_state(),
        "python": {"version": version, "words": list(words), "gauss": gauss},
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        kind, key, position, has_gauss, cached = numpy.random.get_state()
        state["numpy"] = [kind, key.tolist(), position, has_gauss, cached]
    return state


def _set_rng_state(state: dict[str, Any]) -> None:
    import random

    set_rng_state(state["default"])
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
    if "numpy" in state:
        import numpy

        kind, key, *rest = state["numpy"]
        numpy.random.set_state((kind, numpy.array(key, dtype=numpy.uint32), *rest))
