"""Making one batch of several samples."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from fluxion import _C, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _is_numpy(value: Any) -> bool:
    """Whether `value` is a NumPy array or scalar; NumPy is not imported for it."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def _from_numpy(value: Any) -> Any:
    if value.dtype.kind in "SUOVMm":
        raise TypeError(f"default_collate: can't make a tensor of a NumPy {value.dtype} array")
    return _C.as_tensor(value)


def default_collate(batch: Sequence[Any]) -> Any:
    """Stacks samples: tensors and arrays along a new first dim, numbers to a tensor; containers elementwise.

    Strings and bytes stay a list. Raises TypeError for other types and RuntimeError for sequences of
    unequal length.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return _C.stack(list(batch))
    if _is_numpy(first):
        return _C.stack([_from_numpy(sample) for sample in batch])
    if isinstance(first, float):
        return _C.tensor(list(batch), dtype=_C.float64)
    if isinstance(first, int):
        return _C.tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        collated = {key: default_collate([sample[key] for sample in batch]) for key in first}
        return _like(first, collated)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*[default_collate(samples) for samples in zip(*batch)])
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [default_collate(samples) for samples in zip(*batch)]
        return columns if isinstance(first, (tuple, list)) else _like(first, columns)
    raise TypeError(
        "default_collate: samples must be tensors, arrays, numbers, dicts or lists, "
        f"got {type(first).__name__}"
    )


def default_convert(data: Any) -> Any:
    """Turns NumPy arrays within `data` into tensors; everything else stays."""
    if isinstance(data, Tensor) or isinstance(data, (str, bytes)):
        return data
    if _is_numpy(data):
        return data if data.dtype.kind in "SUOVMm" else _C.as_tensor(data)
    if isinstance(data, Mapping):
        return _like(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*[default_convert(value) for value in data])
    if isinstance(data, tuple):
        return [default_convert(value) for value in data]
    if isinstance(data, Sequence):
        return _like(data, [default_convert(value) for value in data])
    return data


def _like(original: Any, values: Any) -> Any:
    """`values` in a container of the original's type, if that can be made of them."""
    try:
        return type(original)(values)
    except TypeError:
        return values
