"""The signatures of everything that has PyTorch's name."""

from __future__ import annotations

import inspect

PARTS = ("nn", "nn.functional", "nn.init", "nn.utils", "optim", "optim.lr_scheduler", "utils.data")
METHODS = ("nn.Module", "optim.Optimizer", "optim.lr_scheduler.LRScheduler")


def _find(T, path):
    for name in path.split(".") if path else ():
        T = getattr(T, name)
    return T


def signature(value):
    """[(name, kind, default)] or None where Python can't tell."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, p.kind.name, _default(p.default)] for p in parameters]


def _default(value):
    if value is inspect.Parameter.empty:
        return "<none>"
    plain = value is None or isinstance(value, (bool, int, float, str, tuple))
    return repr(value) if plain else type(value).__name__


def signatures(T, names):
    """Signatures of the given {part: names}, and of the public methods of some classes."""
    out = {}
    for part, members in names.items():
        for name in members:
            value = getattr(_find(T, part), name, None)
            if callable(value):
                out[f"{part}.{name}"] = signature(value)
    return out


def method_names(T):
    """{class path: its public methods}."""
    return {path: [n for n in dir(_find(T, path)) if not n.startswith("_")] for path in METHODS}
