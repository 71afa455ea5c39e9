"""Data sets: samples by index, or samples one after another."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from fluxion import _C, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any


class Dataset:
    """A data set by index: a subclass defines `__getitem__` and `__len__`.

    It may define `__getitems__(indices)`, which the loader then calls once for a whole batch.
    """

    def __class_getitem__(cls, item: Any) -> type:  # Dataset[Tensor] in annotations
        return cls

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """A data set that is a stream: a subclass defines `__iter__`.

    With several workers each iterates it, so `__iter__` must split the work by `get_worker_info()`.
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")

    def __add__(self, other: Dataset) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset):
    """Tensors of equal first size; sample i is a tuple of their elements i. The loader indexes whole batches."""

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        sizes = [tensor.shape[0] for tensor in tensors]
        if any(size != sizes[0] for size in sizes):
            raise ValueError(f"TensorDataset: tensors must agree in size of dim 0, got {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class StackDataset(Dataset):
    """Data sets side by side: sample i is a tuple (or, by keyword, a dict) of their samples i."""

    datasets: Any

    def __init__(self, *args: Dataset, **kwargs: Dataset) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: give data sets either by position or by keyword")
        parts = args or tuple(kwargs.values())
        self._length = len(parts[0])  # type: ignore[arg-type]
        if any(len(part) != self._length for part in parts):  # type: ignore[arg-type]
            raise ValueError("StackDataset: data sets must agree in length")
        self.datasets = args or kwargs

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.datasets, dict):
            return {name: part[index] for name, part in self.datasets.items()}
        return tuple(part[index] for part in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset):
    """Data sets one after another."""

    datasets: list[Dataset]
    cumulative_sizes: list[int]

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: needs at least one data set")
        if any(isinstance(part, IterableDataset) for part in self.datasets):
            raise ValueError("ConcatDataset does not support IterableDataset; use ChainDataset")
        self.cumulative_sizes = list(accumulate(len(part) for part in self.datasets))  # type: ignore

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for a ConcatDataset of {len(self)}")
        index %= len(self)
        part = bisect_right(self.cumulative_sizes, index)
        start = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][index - start]


class ChainDataset(IterableDataset):
    """Streams one after another."""

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for part in self.datasets:
            if not isinstance(part, IterableDataset):
                raise TypeError(
                    f"ChainDataset supports IterableDataset only, got {type(part).__name__}"
                )
            yield from part

    def __len__(self) -> int:
        return sum(len(part) for part in self.datasets)  # type: ignore[arg-type]


class Subset(Dataset):
    """The samples of a data set at `indices`."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        own = [self.indices[i] for i in indices]
        many = getattr(self.dataset, "__getitems__", None)
        return many(own) if callable(many) else [self.dataset[i] for i in own]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset, lengths: Sequence[int | float], generator: Any = None
) -> list[Subset]:
    """Splits a data set at random into subsets of these lengths, or fractions that add up to 1."""
    total = len(dataset)  # type: ignore[arg-type]
    if abs(sum(lengths) - 1) < 1e-6 and sum(lengths) <= 1 + 1e-6:
        lengths = _from_fractions(lengths, total)
    if sum(lengths) != total:
        raise ValueError(
            f"random_split: lengths must add up to the data set's {total} samples, got {list(lengths)}"
        )
    order = _C.randperm(total, generator=generator).tolist()
    ends = accumulate(lengths)
    return [
        Subset(dataset, order[end - length : end])  # type: ignore[misc]
        for end, length in zip(ends, lengths)
    ]


def _from_fractions(fractions: Sequence[float], total: int) -> list[int]:
    """Rounded down, what is left over goes one by one to the first ones."""
    for i, fraction in enumerate(fractions):
        if not 0 <= fraction <= 1:
            raise ValueError(f"random_split: fraction {i} is not between 0 and 1: {fraction}")
    lengths = [int(total * fraction) for fraction in fractions]
    for i in range(total - sum(lengths)):
        lengths[i % len(lengths)] += 1
    for i, length in enumerate(lengths):
        if length == 0:
            import warnings

            warnings.warn(f"random_split: part {i} is empty", stacklevel=3)
    return lengths
