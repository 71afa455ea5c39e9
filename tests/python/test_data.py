"""Data sets, samplers, collation and the loader."""

import collections
import threading
import time
import traceback

import numpy as np
import pytest

import fluxion
from fluxion.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
)


class Squares(Dataset):
    def __init__(self, size, fail_at=None, pause=0.0):
        self.size, self.fail_at, self.pause = size, fail_at, pause
        self.threads = set()

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.threads.add(threading.current_thread().name)
        if index == self.fail_at:
            raise KeyError("broken sample")
        time.sleep(self.pause * (index % 3))
        return fluxion.tensor(index), float(index**2)


class Stream(IterableDataset):
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.size, step))

    def __len__(self):
        return self.size


def seeded(seed):
    return fluxion.Generator().manual_seed(seed)


def tensors(size=10):
    return TensorDataset(fluxion.arange(size), fluxion.arange(2 * size).view(size, 2))


def first_of(loader):
    return [batch[0].tolist() for batch in loader]


# The loader


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order(workers):
    loader = DataLoader(Squares(10, pause=0.001), batch_size=4, num_workers=workers)
    batches = list(loader)
    assert [x.tolist() for x, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[1][1].dtype == fluxion.float64
    assert batches[1][1].tolist() == [16.0, 25.0, 36.0, 49.0]
    assert len(loader) == 3


def test_workers_are_threads_that_share_the_work():
    data = Squares(40, pause=0.002)
    list(DataLoader(data, batch_size=2, num_workers=3))
    assert len(data.threads) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_drop_last(workers):
    loader = DataLoader(Squares(10), batch_size=4, drop_last=True, num_workers=workers)
    assert len(list(loader)) == len(loader) == 2


@pytest.mark.parametrize("data", [Squares(20), tensors(20), Subset(tensors(30), range(20))])
@pytest.mark.parametrize("workers", [0, 2])
def test_shuffle_is_a_permutation_that_follows_the_generator(data, workers):
    def order(seed):
        loader = DataLoader(
            data, batch_size=3, shuffle=True, num_workers=workers, generator=seeded(seed)
        )
        return [i for batch in first_of(loader) for i in batch]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(20))


def test_shuffle_follows_the_global_seed_and_differs_between_epochs():
    loader = DataLoader(tensors(), batch_size=10, shuffle=True)
    fluxion.manual_seed(3)
    first, second = first_of(loader), first_of(loader)
    fluxion.manual_seed(3)
    assert first_of(loader) == first != second


def test_tensor_dataset_is_indexed_batch_by_batch():
    loader = DataLoader(tensors(7), batch_size=3)
    batches = list(loader)
    assert [type(batch) for batch in batches] == [list] * 3
    assert batches[2][1].tolist() == [[12, 13]]
    slow = [default_collate([tensors(7)[i] for i in range(j, min(j + 3, 7))]) for j in (0, 3, 6)]
    assert [[t.tolist() for t in b] for b in batches] == [[t.tolist() for t in b] for b in slow]


def test_batches_of_a_tensor_dataset_have_their_own_memory():
    data = tensors(4)
    for x, _ in DataLoader(data, batch_size=2):
        x.zero_()
    assert data.tensors[0].tolist() == [0, 1, 2, 3]


def test_subset_of_subset_is_fast_and_right():
    part = Subset(Subset(tensors(10), [9, 7, 5, 3, 1]), [4, 0, 2])
    assert first_of(DataLoader(part, batch_size=2)) == [[1, 9], [5]]
    assert sorted(sum(first_of(DataLoader(part, batch_size=2, shuffle=True)), [])) == [1, 5, 9]


def test_getitems_is_called_once_for_a_batch():
    calls = []

    class Many(Squares):
        def __getitems__(self, indices):
            calls.append(indices)
            return [self[i] for i in indices]

    list(DataLoader(Many(5), batch_size=2))
    assert calls == [[0, 1], [2, 3], [4]]


def test_samples_one_by_one():
    assert [x.item() for x, _ in DataLoader(Squares(3), batch_size=None)] == [0, 1, 2]
    loader = DataLoader([np.ones(2), "text"], batch_size=None)
    array, text = loader
    assert isinstance(array, fluxion.Tensor) and text == "text"


def test_samplers_and_collate_functions():
    loader = DataLoader(Squares(6), batch_size=2, sampler=[5, 3, 1], collate_fn=len)
    assert list(loader) == [2, 1]
    loader = DataLoader(Squares(6), batch_sampler=[[0], [1, 2]], collate_fn=len, num_workers=2)
    assert list(loader) == [1, 2]
    assert loader.batch_size is None
    assert len(loader) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_keeps_its_type_and_traceback(workers):
    loader = iter(DataLoader(Squares(9, fail_at=4), batch_size=2, num_workers=workers))
    assert len([next(loader), next(loader)]) == 2
    with pytest.raises(KeyError, match="broken sample") as info:
        next(loader)
    text = "".join(traceback.format_exception(info.value))
    assert "__getitem__" in text
    assert ("raised in DataLoader worker" in text) == bool(workers)


def test_stop_iteration_in_a_data_set_is_an_error():
    class Ends(Squares):
        def __getitem__(self, index):
            raise StopIteration

    with pytest.raises(RuntimeError):
        list(DataLoader(Ends(3)))


def test_leaving_early_ends_the_workers():
    before = threading.active_count()
    loader = iter(DataLoader(Squares(100), num_workers=3))
    next(loader)
    loader.close()
    deadline = time.time() + 5
    while threading.active_count() > before and time.time() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # a worker of an earlier test may have ended since


def test_persistent_workers_stay():
    started = []
    loader = DataLoader(
        Squares(6), num_workers=2, persistent_workers=True, worker_init_fn=started.append
    )
    assert len(list(loader)) == len(list(loader)) == 6
    assert sorted(started) == [0, 1]


def test_worker_init_errors_are_raised():
    def fail(worker):
        raise OSError(f"worker {worker}")

    with pytest.raises(OSError, match="worker 0"):
        list(DataLoader(Squares(6), num_workers=2, worker_init_fn=fail))


def test_timeout():
    loader = DataLoader(Squares(6, pause=0.5), num_workers=1, timeout=0.05)
    with pytest.raises(RuntimeError, match="timed out after 0.05 seconds"):
        list(loader)


def test_out_of_order_gives_everything():
    loader = DataLoader(Squares(12, pause=0.002), num_workers=3, in_order=False)
    assert sorted(x.item() for x, _ in loader) == list(range(12))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_streams(workers):
    loader = DataLoader(Stream(10), batch_size=2, num_workers=workers)
    got = [batch.tolist() for batch in loader]
    assert sorted(sum(got, [])) == list(range(10))
    if workers == 3:
        assert got[:3] == [[0, 3], [1, 4], [2, 5]]
    assert len(loader) == 5
    assert list(DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
    assert len(list(DataLoader(Stream(5), batch_size=2, drop_last=True))) == 2


def test_worker_info():
    infos = []

    class Curious(Squares):
        def __getitem__(self, index):
            infos.append(get_worker_info())
            return index

    data = Curious(8)
    list(DataLoader(data, num_workers=2, generator=seeded(0)))
    assert get_worker_info() is None
    assert {(i.id, i.num_workers) for i in infos} == {(0, 2), (1, 2)}
    assert len({i.seed for i in infos}) == 2
    assert all(i.dataset is data for i in infos)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_workers": -1}, "num_workers must not be negative"),
        ({"timeout": -1}, "timeout must not be negative"),
        ({"prefetch_factor": 2}, "prefetch_factor needs num_workers"),
        ({"num_workers": 1, "prefetch_factor": 0}, "prefetch_factor must be positive"),
        ({"persistent_workers": True}, "persistent_workers needs num_workers"),
        ({"sampler": [1], "shuffle": True}, "sampler and shuffle exclude"),
        ({"batch_sampler": [[1]], "batch_size": 3}, "batch_sampler excludes"),
        ({"batch_size": None, "drop_last": True}, "excludes drop_last"),
        ({"batch_size": 0}, "batch_size must be a positive int, got 0"),
    ],
)
def test_loader_errors(options, text):
    with pytest.raises(ValueError, match=text):
        DataLoader(Squares(3), **options)


def test_streams_have_their_own_order():
    for options in ({"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}):
        with pytest.raises(ValueError, match="an IterableDataset has its own order"):
            DataLoader(Stream(3), **options)


# Data sets


def test_data_sets():
    both = Squares(3) + Squares(2)
    assert isinstance(both, ConcatDataset) and len(both) == 5
    assert [both[i][0].item() for i in (0, 2, 3, -1)] == [0, 2, 0, 1]
    with pytest.raises(IndexError, match="index 5 is out of range"):
        both[5]
    assert list(Stream(2) + ChainDataset([Stream(1)])) == [0, 1, 0]
    stacked = StackDataset(a=range(3), b=range(3, 6))
    assert stacked[1] == {"a": 1, "b": 4} and len(stacked) == 3
    assert StackDataset(range(2), range(2))[1] == (1, 1)
    assert tensors(3)[1][1].tolist() == [2, 3]
    assert [x.item() for x, _ in Subset(Squares(9), [4, 2])] == [4, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: TensorDataset(fluxion.ones(2), fluxion.ones(3)),
        lambda: ConcatDataset([]),
        lambda: ConcatDataset([Stream(1)]),
        lambda: StackDataset(),
        lambda: StackDataset(range(2), range(3)),
        lambda: random_split(range(5), [2, 2]),
        lambda: random_split(range(5), [1.5, -0.5]),
    ],
)
def test_data_set_errors(make):
    with pytest.raises(ValueError):
        make()


def test_random_split():
    parts = random_split(range(10), [7, 3], generator=seeded(1))
    again = random_split(range(10), [7, 3], generator=seeded(1))
    assert [len(p) for p in parts] == [7, 3]
    assert sorted(parts[0].indices + parts[1].indices) == list(range(10))
    assert [p.indices for p in parts] == [p.indices for p in again]
    assert [len(p) for p in random_split(range(10), [0.55, 0.25, 0.2])] == [6, 2, 2]


# Samplers


def test_samplers():
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    sampler = RandomSampler(range(5), generator=seeded(0))
    assert sorted(sampler) == [0, 1, 2, 3, 4] and len(sampler) == 5
    more = list(RandomSampler(range(3), num_samples=7))
    assert sorted(more[:3]) == sorted(more[3:6]) == [0, 1, 2]
    draws = list(RandomSampler(range(3), replacement=True, num_samples=50))
    assert len(draws) == 50 and set(draws) == {0, 1, 2}
    assert sorted(SubsetRandomSampler([4, 8, 2])) == [2, 4, 8]
    assert set(WeightedRandomSampler([0.0, 1.0, 0.0], 5)) == {1}
    assert sorted(WeightedRandomSampler([1.0, 1.0], 2, replacement=False)) == [0, 1]
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]


def test_distributed_sampler():
    parts = [DistributedSampler(range(10), 3, rank) for rank in range(3)]
    assert [len(p) for p in parts] == [4, 4, 4]
    seen = sum([list(p) for p in parts], [])
    assert set(seen) == set(range(10)) and len(seen) == 12
    first = list(parts[0])
    parts[0].set_epoch(1)
    assert list(parts[0]) != first
    short = [
        list(DistributedSampler(range(10), 3, r, shuffle=False, drop_last=True)) for r in range(3)
    ]
    assert short == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSampler([]),
        lambda: RandomSampler([1], num_samples=0),
        lambda: BatchSampler([1], 0, False),
        lambda: BatchSampler([1], 1, 3),
        lambda: WeightedRandomSampler([1.0], 0),
        lambda: WeightedRandomSampler([[1.0]], 1),
        lambda: DistributedSampler([1], 2, 2),
    ],
)
def test_sampler_errors(make):
    with pytest.raises(ValueError):
        make()


# Collation

Point = collections.namedtuple("Point", ["x", "y"])


def test_collate():
    batch = default_collate(
        [{"a": 1, "b": ("s", np.float32(2.0))}, {"a": 3, "b": ("t", np.float32(4))}]
    )
    assert batch["a"].tolist() == [1, 3] and batch["a"].dtype == fluxion.int64
    assert batch["b"][0] == ("s", "t")
    assert batch["b"][1].dtype == fluxion.float32
    assert default_collate([Point(1, 2), Point(3, 4)]).y.tolist() == [2, 4]
    assert default_collate([np.ones((2, 1)), np.zeros((2, 1))]).shape == (2, 2, 1)
    assert default_collate([True, False]).dtype == fluxion.bool
    assert default_collate([b"x", b"y"]) == [b"x", b"y"]
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1], [1, 2]])
    with pytest.raises(TypeError, match="got object"):
        default_collate([object()])
    with pytest.raises(TypeError, match="NumPy"):
        default_collate([np.array("text")])


def test_convert():
    converted = default_convert({"a": np.arange(2), "b": [1, "x"], "c": Point(np.ones(1), 2)})
    assert converted["a"].tolist() == [0, 1]
    assert converted["b"] == [1, "x"]
    assert isinstance(converted["c"], Point) and converted["c"].x.tolist() == [1.0]


# Random numbers, and what stays as it was made


class Noise(Dataset):
    """Draws from the worker's generator, at odd moments."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        time.sleep(0.001 * (i * 5 % 3))
        return fluxion.rand(2)


def noise(workers, **options):
    fluxion.manual_seed(5)
    return [b.tolist() for b in DataLoader(Noise(), 3, num_workers=workers, **options)]


def test_random_numbers_of_workers_are_repeatable():
    one = noise(1)
    assert noise(3) == noise(3, prefetch_factor=5) == one
    assert len({tuple(map(tuple, batch)) for batch in one}) == len(one)


def test_persistent_workers_draw_anew_in_every_pass():
    fluxion.manual_seed(5)
    loader = DataLoader(Noise(), 3, num_workers=2, persistent_workers=True)
    first, second = ([b.tolist() for b in loader] for _ in range(2))
    assert first == noise(1)
    assert first != second


def test_workers_do_not_draw_from_the_main_threads_generator():
    fluxion.manual_seed(5)
    loader = iter(DataLoader(Noise(), 3, num_workers=2))
    ours = fluxion.rand(3)
    list(loader)
    fluxion.manual_seed(5)
    iter(DataLoader(Noise(), 3))
    assert (ours == fluxion.rand(3)).all()


def test_shuffling_does_not_depend_on_workers():
    def order(workers):
        fluxion.manual_seed(2)
        return [b.tolist() for b in DataLoader(range(20), 4, shuffle=True, num_workers=workers)]

    assert order(0) == order(1) == order(3)


def test_a_worker_knows_its_seed():
    seeds = []

    def begin(i):
        seeds.append((fluxion.initial_seed(), get_worker_info().seed))

    list(DataLoader(range(4), num_workers=2, worker_init_fn=begin))
    assert len(set(seeds)) == 2
    assert all(own == told for own, told in seeds)
    assert fluxion.initial_seed() not in [own for own, _ in seeds]


@pytest.mark.parametrize(
    "name", ["dataset", "batch_size", "sampler", "batch_sampler", "drop_last", "persistent_workers"]
)
def test_what_makes_the_batches_cannot_be_changed(name):
    loader = DataLoader(range(4), 2)
    with pytest.raises(ValueError, match=f"DataLoader: {name} can't be changed"):
        setattr(loader, name, 3)
    loader.num_workers = 1  # as in PyTorch
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3]]


def test_the_distributed_sampler_is_where_pytorch_has_it():
    assert fluxion.utils.data.distributed.DistributedSampler is DistributedSampler
