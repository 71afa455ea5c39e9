"""Inputs that need no random numbers, and results as plain Python values."""

from __future__ import annotations

import math


def wave(T, *shape, seed=0, low=-2.0, high=2.0, grad=False):
    """A float64 tensor of irregular values in [low, high]."""
    count = math.prod(shape)
    values = [math.sin(i * 1.7 + seed * 0.9 + 0.3 * math.cos(3.1 * i)) for i in range(count)]
    middle, half = (low + high) / 2, (high - low) / 2
    tensor = T.tensor([middle + half * v for v in values], dtype=T.float64).reshape(shape)
    return tensor.requires_grad_() if grad else tensor


def integers(T, *shape, below, seed=0):
    """An int64 tensor of values in [0, below)."""
    count = math.prod(shape)
    return T.tensor([(i * 7 + i * i + seed) % below for i in range(count)]).reshape(shape)


def plain(value):
    """Tensors as nested lists, containers elementwise, everything else as it is."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def close(got, wanted, tolerance=1e-7):
    """Whether two plain values agree, numbers to a relative and absolute tolerance."""
    if isinstance(wanted, bool) or isinstance(got, bool):
        return got == wanted
    if isinstance(wanted, (int, float)) and isinstance(got, (int, float)):
        return math.isclose(got, wanted, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(wanted, list):
        same = isinstance(got, list) and len(got) == len(wanted)
        return same and all(close(g, w, tolerance) for g, w in zip(got, wanted))
    if isinstance(wanted, dict):
        same = isinstance(got, dict) and got.keys() == wanted.keys()
        return same and all(close(got[key], wanted[key], tolerance) for key in wanted)
    return got == wanted
