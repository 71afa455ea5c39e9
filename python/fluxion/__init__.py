"""Fluxion: a deep-learning system for Python and C++, with PyTorch's interface where one exists."""

from __future__ import annotations

from math import e, inf, nan, pi

from fluxion import _C
from fluxion._C import (
    Generator,
    Size,
    Tensor,
    default_generator,
    device,
    dtype,
    enable_grad,
    inference_mode,
    layout,
    memory_format,
    no_grad,
    set_grad_enabled,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

newaxis = None

_constants = [n for n, v in vars(_C).items() if isinstance(v, (dtype, layout, memory_format))]
_public = [*_C._public, *_constants]
globals().update((name, getattr(_C, name)) for name in _public)

# Imported when first used: `import fluxion` stays a blink.
_modules = ("autograd", "capture", "compat", "nn", "optim", "random", "serialization", "utils")
_elsewhere = {
    "finfo": "numeric",
    "iinfo": "numeric",
    "async_save": "serialization",
    "compile": "capture",
    "fork_rng": "random",
    "load": "serialization",
    "load_checkpoint": "checkpoint",
    "save": "serialization",
    "save_checkpoint": "checkpoint",
    **dict.fromkeys(
        (
            "BFloat16Tensor",
            "BoolTensor",
            "ByteTensor",
            "CharTensor",
            "DoubleTensor",
            "FloatTensor",
            "HalfTensor",
            "IntTensor",
            "LongTensor",
            "ShortTensor",
        ),
        "legacy",
    ),
}

__all__ = sorted(
    {
        *(n for n in _public if not n.startswith("_")),
        *_elsewhere,
        *(m for m in _modules if m != "compat"),
        "Generator",
        "Size",
        "Tensor",
        "default_generator",
        "device",
        "dtype",
        "e",
        "enable_grad",
        "inf",
        "inference_mode",
        "layout",
        "memory_format",
        "nan",
        "newaxis",
        "no_grad",
        "pi",
        "set_grad_enabled",
    }
)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _modules:
        return import_module(f"fluxion.{name}")
    if name in _elsewhere:
        value = globals()[name] = getattr(import_module(f"fluxion.{_elsewhere[name]}"), name)
        return value
    raise AttributeError(f"module 'fluxion' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules, *_elsewhere})
