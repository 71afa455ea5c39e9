"""`DataLoader`: batches of a data set."""

from __future__ import annotations

from itertools import islice

from fluxion import _C

from ._workers import WorkerPool, interleaved, ordered
from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset, Subset, TensorDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["DataLoader"]

_BATCHES = 2**62  # seeds of batches begin there, those of workers below

# What the order of batches was made from.
_FIXED = (
    "dataset",
    "batch_size",
    "sampler",
    "batch_sampler",
    "drop_last",
    "persistent_workers",
)


class DataLoader:
    """Iterates over batches of a data set.

    `num_workers` threads fetch `prefetch_factor` batches each ahead, and batches come in order; an exception in a
    worker is raised where the batch is asked for, with the worker's traceback. `generator` makes shuffling
    repeatable, with any number of workers. Random numbers that workers draw with `fluxion` are repeatable too: those
    of a batch depend on its place in the pass; Python's and NumPy's own generators are shared by all threads.
    Batches of a TensorDataset are indexed at once. `pin_memory` and `pin_memory_device` are accepted and have no
    effect. `state_dict` says where a pass stands, also in the middle of it.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler | Iterable | None = None,
        batch_sampler: Sampler | Iterable | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        if multiprocessing_context is not None:
            raise NotImplementedError(
                "DataLoader: workers are threads; multiprocessing_context is not in Fluxion yet"
            )
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self.generator = generator
        self._streams = isinstance(dataset, IterableDataset)
        if self._streams:
            _check_stream(shuffle, sampler, batch_sampler)
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle exclude each other")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("DataLoader: batch_size=None (no batching) excludes drop_last")
        if sampler is None and not self._streams:
            sampler = (
                RandomSampler(dataset, generator=generator)  # type: ignore[arg-type]
                if shuffle
                else SequentialSampler(dataset)  # type: ignore[arg-type]
            )
        if batch_size is not None and batch_sampler is None and not self._streams:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)  # type: ignore[arg-type]
        if self._streams and batch_size is not None and batch_size <= 0:
            raise ValueError(f"DataLoader: batch_size must be positive, got {batch_size}")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        batched = batch_size is not None or batch_sampler is not None
        self._batched = batched
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self._pool: WorkerPool | None = None
        self._position: dict[str, Any] | None = None  # of the pass under way
        self._resumed: dict[str, Any] | None = None  # where the next pass begins
        self._made = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_made" in self.__dict__:
            raise ValueError(f"DataLoader: {name} can't be changed; make another DataLoader")
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        if self._streams:
            size = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return size
            return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
        return len(self.batch_sampler if self._batched else self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        position, self._resumed = self._resumed, None
        if position is None:
            # Drawn with and without workers, so that both shuffle alike.
            seed = int(_C.randint(0, 2**62, (1,), generator=self.generator).item())
            position = {"seed": seed, "batches": 0, "start": None}
        self._position = position
        return self._pass(position)

    def _pass(self, position: dict[str, Any]) -> Iterator[Any]:
        """The batches of one pass after those that it has given out already."""
        try:
            for batch in self._batches(position):
                position["batches"] += 1
                yield batch
        finally:
            if self._position is position:
                self._position = None

    def _batches(self, position: dict[str, Any]) -> Iterator[Any]:
        now = self._random_state()
        if position["start"] is None:
            position["start"] = now
        else:
            self._set_random_state(position["start"])
        done = position["batches"]
        tasks: Any = None if self._streams else iter(self._tasks())
        if self.num_workers:
            batches = self._with_workers(position["seed"], tasks, done)
        else:
            batches = self._stream() if self._streams else self._one_by_one(tasks)
        if done:
            _skip(batches if self._streams else tasks, done)
            self._set_random_state(now)
        return batches

    def _one_by_one(self, tasks: Iterator[Any]) -> Iterator[Any]:
        fetch = self._fetcher()
        for task in tasks:
            yield fetch(task)

    # Where a pass stands

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from: the place in the pass under way, and what later orders follow from.

        The state of the default generator is not part of it. A pass that was left by `break` is over. Samplers are
        asked for their `state_dict`; one of your own that draws while it is iterated needs one, or its own generator
        as `self.generator`.
        """
        position = self._resumed or self._position
        if position and position["batches"] and self.num_workers and not self.in_order:
            raise ValueError(
                "DataLoader: with in_order=False the place in a pass is not known; "
                "take the state_dict between passes"
            )
        return {
            "position": None if position is None else dict(position),
            "now": self._random_state(default=False),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The next pass begins where the saved one stood; batches given out then are not fetched again.

        A stream (IterableDataset) is read again up to that place.
        """
        if not isinstance(state_dict, dict) or set(state_dict) != {"position", "now"}:
            raise ValueError("DataLoader: load_state_dict needs what state_dict gave")
        self._set_random_state(state_dict["now"])
        position = state_dict["position"]
        self._resumed = None if position is None else dict(position)

    def _random_state(self, default: bool = True) -> dict[str, Any]:
        """Of everything that may be drawn from for an order."""
        state: dict[str, Any] = {"default": _C.get_rng_state()} if default else {}
        if self.generator is not None:
            state["generator"] = self.generator.get_state()
        sampler = self.batch_sampler if self._batched else self.sampler
        if hasattr(sampler, "state_dict"):
            state["sampler"] = sampler.state_dict()  # type: ignore[union-attr]
        return state

    def _set_random_state(self, state: dict[str, Any]) -> None:
        if "default" in state:
            _C.set_rng_state(state["default"])
        if "generator" in state:
            if self.generator is None:
                raise ValueError(
                    "DataLoader: the state has a generator, but this loader has none; "
                    "make it as the saved one was made"
                )
            self.generator.set_state(state["generator"])
        if "sampler" in state:
            sampler: Any = self.batch_sampler if self._batched else self.sampler
            sampler.load_state_dict(state["sampler"])

    # Map-style: tasks are indices or lists of indices

    def _tasks(self) -> Iterable[Any]:
        """What to fetch: an index, a list of indices or an index tensor for each batch."""
        if not self._batched:
            return self.sampler  # type: ignore[return-value]
        batches: Any = self.batch_sampler
        if self._fast() and type(batches) is BatchSampler:
            sampler, size = batches.sampler, batches.batch_size
            if type(sampler) in (RandomSampler, SequentialSampler):
                whole = len(sampler) - len(sampler) % size if batches.drop_last else len(sampler)
                if type(sampler) is RandomSampler:
                    order = sampler.order()
                    return (order[i : i + size] for i in range(0, whole, size))
                return (slice(i, min(i + size, whole)) for i in range(0, whole, size))
        return batches

    def _fast(self) -> bool:
        """Whether batches can be indexed at once."""
        plain = self.collate_fn is default_collate
        dataset: Any = self.dataset
        while type(dataset) is Subset:
            dataset = dataset.dataset
        return plain and type(dataset) is TensorDataset

    def _fetcher(self) -> Callable[[Any], Any]:
        dataset, collate = self.dataset, self.collate_fn
        if not self._batched:
            return lambda index: collate(dataset[index])
        if self._fast():
            return lambda index: _take(dataset, index)
        many = getattr(dataset, "__getitems__", None)
        if callable(many):
            return lambda indices: collate(many(indices))
        return lambda indices: collate([dataset[i] for i in indices])

    # Streams

    def _stream(self) -> Iterator[Any]:
        samples = iter(self.dataset)  # type: ignore[call-overload]
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while True:
            batch = list(islice(samples, self.batch_size))
            if not batch or (self.drop_last and len(batch) < self.batch_size):
                return
            yield self.collate_fn(batch)

    # Workers

    def _with_workers(self, seed: int, tasks: Iterator[Any] | None, done: int) -> Iterator[Any]:
        pool = self._pool
        if pool is None:
            pool = WorkerPool(self.num_workers, seed, self.dataset, self.worker_init_fn)
            if self.persistent_workers:
                self._pool = pool
        timeout = self.timeout or None
        try:
            pool.check_started()
            ahead = self.prefetch_factor or 2
            if tasks is None:
                streams = [self._stream() for _ in range(self.num_workers)]
                yield from interleaved(pool, streams, ahead, timeout)
            else:
                ahead *= self.num_workers
                yield from ordered(
                    pool,
                    tasks,
                    self._fetcher(),
                    seed + _BATCHES + done,
                    ahead,
                    timeout,
                    self.in_order,
                )
        finally:
            if pool is not self._pool:
                pool.shutdown()

    def __del__(self) -> None:
        if getattr(self, "_pool", None) is not None:
            self._pool.shutdown()  # type: ignore[union-attr]


def _skip(iterator: Iterator[Any], count: int) -> None:
    for _ in islice(iterator, count):
        pass


def _take(dataset: Any, index: Any) -> list[Any]:
    """A batch of a TensorDataset, or of subsets of one, in fresh memory."""
    while type(dataset) is Subset:
        own = dataset.indices
        if isinstance(index, slice):
            index = own[index]
        elif hasattr(own, "dtype"):
            index = own[index]
        else:
            index = [own[i] for i in (index if isinstance(index, list) else index.tolist())]
        dataset = dataset.dataset
    if isinstance(index, slice):
        return [tensor[index].clone() for tensor in dataset.tensors]
    if not hasattr(index, "dtype"):
        index = _C.tensor(list(index), dtype=_C.int64)
    return [tensor[index] for tensor in dataset.tensors]


def _check_workers(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool
) -> None:
    if num_workers < 0:
        raise ValueError(f"DataLoader: num_workers must not be negative, got {num_workers}")
    if timeout < 0:
        raise ValueError(f"DataLoader: timeout must not be negative, got {timeout}")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError("DataLoader: prefetch_factor needs num_workers > 0")
    if prefetch_factor is not None and prefetch_factor <= 0:
        raise ValueError(f"DataLoader: prefetch_factor must be positive, got {prefetch_factor}")
    if persistent_workers and num_workers == 0:
        raise ValueError("DataLoader: persistent_workers needs num_workers > 0")


def _check_stream(shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
    for name, value in (("shuffle", shuffle or None), ("sampler", sampler)):
        if value is not None:
            raise ValueError(
                f"DataLoader: an IterableDataset has its own order, got {name}={value}"
            )
    if batch_sampler is not None:
        raise ValueError("DataLoader: an IterableDataset has its own order, got a batch_sampler")
