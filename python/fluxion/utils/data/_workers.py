"""Loader workers: threads that fetch ahead, results in order."""

from __future__ import annotations

import threading
from collections import deque

from fluxion import _C

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor
    from typing import Any

_local = threading.local()


class WorkerInfo:
    """What a worker knows about itself: `id`, `num_workers`, `seed` and `dataset`."""

    def __init__(self, id: int, num_workers: int, seed: int, dataset: Any) -> None:
        self.id = id
        self.num_workers = num_workers
        self.seed = seed
        self.dataset = dataset

    def __repr__(self) -> str:
        return f"WorkerInfo(id={self.id}, num_workers={self.num_workers}, seed={self.seed})"


def get_worker_info() -> WorkerInfo | None:
    """The calling worker's description; None outside a worker."""
    return getattr(_local, "info", None)


class WorkerPool:
    """`count` workers with a thread each; `init_fn(id)` runs first in every one.

    Each has a random generator of its own, so what is drawn in one depends on no other thread.
    """

    def __init__(
        self, count: int, seed: int, dataset: Any, init_fn: Callable[[int], None] | None
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._threads: list[ThreadPoolExecutor] = []
        self._ready: list[Future] = []
        for i in range(count):
            thread = ThreadPoolExecutor(1, thread_name_prefix=f"fluxion-loader-{i}")
            info = WorkerInfo(i, count, seed + i, dataset)
            self._threads.append(thread)
            self._ready.append(thread.submit(_start_worker, info, init_fn))

    def __len__(self) -> int:
        return len(self._threads)

    def check_started(self) -> None:
        """Raises what an `init_fn` raised."""
        for future in self._ready:
            future.result()

    def submit(
        self, worker: int, seed: int | None, function: Callable[..., Any], *args: Any
    ) -> Future:
        """Runs `function(*args)` in a worker; with a seed its random numbers start there."""
        return self._threads[worker].submit(_run, worker, seed, function, *args)

    def shutdown(self) -> None:
        """Ends the workers without waiting; what has not begun is dropped."""
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)


def _start_worker(info: WorkerInfo, init_fn: Callable[[int], None] | None) -> None:
    _local.info = info
    _local.generator = _C.Generator().manual_seed(info.seed)  # lives as long as the thread
    _C._use_generator(_local.generator)
    if init_fn is not None:
        init_fn(info.id)


def _run(worker: int, seed: int | None, function: Callable[..., Any], *args: Any) -> Any:
    if seed is not None:
        _local.generator.manual_seed(seed)
    try:
        return function(*args)
    except Exception as error:
        error.add_note(f"raised in DataLoader worker {worker}")  # type: ignore[attr-defined]
        raise


def ordered(
    pool: WorkerPool,
    tasks: Iterable[Any],
    fetch: Callable[[Any], Any],
    seed: int,
    ahead: int,
    timeout: float | None,
    in_order: bool,
) -> Iterator[Any]:
    """`fetch(task)` for each task, `ahead` of them in the workers at a time, results in the tasks' order.

    A task goes to the worker with the fewest tasks waiting, and its random numbers depend on `seed` and its place
    alone. `in_order=False` gives what is ready first.
    """
    from concurrent.futures import FIRST_COMPLETED, wait

    waiting: deque[Future] = deque()
    load = [0] * len(pool)
    place: dict[Future, int] = {}
    numbered = enumerate(tasks, seed)

    def submit_next() -> None:
        for number, task in numbered:
            worker = load.index(min(load))
            load[worker] += 1
            future = pool.submit(worker, number, fetch, task)
            place[future] = worker
            waiting.append(future)
            return

    for _ in range(ahead):
        submit_next()
    while waiting:
        future = waiting[0]
        if not in_order:
            done, _ = wait(waiting, timeout, FIRST_COMPLETED)
            future = next((f for f in waiting if f in done), future)
        result = result_of(future, timeout)
        waiting.remove(future)
        load[place.pop(future)] -= 1
        submit_next()
        yield result


def result_of(future: Future, timeout: float | None) -> Any:
    """The future's result or exception; RuntimeError after `timeout` seconds."""
    from concurrent.futures import TimeoutError as FutureTimeout

    try:
        return future.result(timeout)
    except FutureTimeout:
        if future.done():  # the worker itself raised a TimeoutError
            raise
        raise RuntimeError(f"DataLoader timed out after {timeout} seconds") from None


def interleaved(
    pool: WorkerPool,
    streams: list[Iterator[Any]],
    ahead: int,
    timeout: float | None,
) -> Iterator[Any]:
    """One item of each worker's stream in turn, each worker `ahead` items ahead; ended streams drop out."""
    end = object()
    waiting: deque[tuple[int, deque[Future]]] = deque()

    def submit(worker: int, futures: deque[Future]) -> None:
        futures.append(pool.submit(worker, None, next, streams[worker], end))

    for worker in range(len(streams)):
        futures: deque[Future] = deque()
        for _ in range(ahead):
            submit(worker, futures)
        waiting.append((worker, futures))
    while waiting:
        worker, futures = waiting.popleft()
        item = result_of(futures.popleft(), timeout)
        if item is end:
            continue
        submit(worker, futures)
        waiting.append((worker, futures))
        yield item
