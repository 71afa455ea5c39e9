"""Checkpoints: a run that was stopped anywhere goes on with the bits of one that was not."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import fluxion
from fluxion import nn, optim
from fluxion.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


class Run:
    """A training run with everything that has state; `steps` counts the batches of all passes."""

    def __init__(self, workers=0, own_generator=False):
        fluxion.manual_seed(3)
        random.seed(4)
        self.model = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.05)
        self.scheduler = optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 40)
        data = fluxion.randn(23, 6, generator=fluxion.Generator().manual_seed(1))
        generator = fluxion.Generator().manual_seed(9) if own_generator else None
        self.loader = DataLoader(
            TensorDataset(data, fluxion.arange(23) % 3),
            batch_size=4,
            shuffle=True,
            num_workers=workers,
            generator=generator,
        )
        self.steps = self.epoch = 0

    def state(self):
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "loader": self.loader,
        }

    def train(self, until, each=None):
        """To that number of steps; ends in the middle of a pass."""
        while self.steps < until:
            for x, y in self.loader:
                loss = nn.functional.cross_entropy(self.model(x) + random.random(), y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                self.steps += 1
                if each:
                    each(self)
                if self.steps == until:
                    return
            self.epoch += 1

    def bits(self):
        values = [*self.model.state_dict().values()]
        for state in self.optimizer.state.values():
            values += [v for v in state.values() if isinstance(v, fluxion.Tensor)]
        return [v.numpy().tobytes() for v in values] + [fluxion.rand(3).tolist()]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("stop", [1, 5, 6, 9])
@pytest.mark.parametrize("background", [False, True])
def test_a_resumed_run_has_the_bits_of_one_that_went_on(
    workers, own_generator, stop, background, path
):
    def save(run):
        if run.steps == stop:
            done = fluxion.save_checkpoint(
                path, **run.state(), extra={"steps": run.steps}, background=background
            )
            if background:
                waiting.append(done)

    waiting = []
    whole = Run(workers, own_generator)
    whole.train(17, save)
    want = whole.bits()
    for future in waiting:
        future.result()

    resumed = Run(workers, own_generator)
    resumed.train(2)
    extra = fluxion.load_checkpoint(path, **resumed.state())
    resumed.steps = extra["steps"]
    assert resumed.steps == stop
    resumed.train(17)
    assert resumed.bits() == want


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import fluxion
from test_checkpoint import Run

run, path = Run(), {path!r}
try:
    run.steps = fluxion.load_checkpoint(path, **run.state())
except FileNotFoundError:
    pass
print("began", run.steps, flush=True)
run.train(60, lambda r: fluxion.save_checkpoint(path, **r.state(), extra=r.steps, background={background}))
print("bits", hash(tuple(map(str, run.bits()))))
"""


@pytest.mark.parametrize("background", [False, True])
def test_killed_at_any_moment(background, path):
    """kill -9 again and again while every step saves; the last run ends with the bits of an unbroken one."""
    script = SCRIPT.format(here=os.path.dirname(__file__), path=str(path), background=background)
    env = {**os.environ, "PYTHONHASHSEED": "0"}

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env
        )

    kills = 0
    for attempt in range(4):
        process = start()
        assert process.stdout.readline().startswith("began")
        time.sleep(0.01 + 0.02 * attempt)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    resumed, _ = start().communicate()
    path.unlink()
    unbroken, _ = start().communicate()
    assert kills > 0
    assert resumed.splitlines()[-1].startswith("bits")
    assert resumed.splitlines()[-1] == unbroken.splitlines()[-1]
    # A kill in the instant between naming the new file and renaming it leaves that name.
    left = [p.name for p in path.parent.iterdir() if p.name != path.name]
    assert len(left) <= kills and all(
        n.startswith(".fluxion.") and n.endswith(".tmp") for n in left
    )


# async_save


def test_async_save_has_the_bytes_of_the_call(path):
    x = fluxion.zeros(1_000_000)
    futures = []
    for i in range(5):
        x.fill_(i)
        futures.append(fluxion.async_save({"x": x, "i": i}, path.parent / f"{i}"))
    x.fill_(99)
    for i, future in enumerate(futures):
        future.result()
        got = fluxion.load(path.parent / f"{i}")
        assert got["i"] == i
        assert (got["x"] == i).all()


def test_async_save_copies_only_what_is_written(path):
    x, y = fluxion.ones(100_000), fluxion.ones(50_000)
    before = fluxion._C._snapshot_bytes_copied()
    gate = fluxion.async_save({"big": fluxion.ones(5_000_000)}, path.parent / "gate")
    future = fluxion.async_save({"x": x, "y": y}, path)
    y.add_(1)
    copied = fluxion._C._snapshot_bytes_copied() - before
    gate.result(), future.result()
    assert copied <= y.nbytes
    assert (fluxion.load(path)["y"] == 1).all()


def test_async_saves_to_one_path_come_in_order(path):
    for i in range(20):
        last = fluxion.async_save({"i": i, "x": fluxion.ones(10_000)}, path)
    last.result()
    assert fluxion.load(path)["i"] == 19


def test_async_errors(path):
    with pytest.raises(TypeError, match="can't save"):
        fluxion.async_save({"x": object()}, path)
    with pytest.raises(FileNotFoundError):
        fluxion.async_save(1, path / "none" / "file")


def test_a_full_disk_in_the_background(path):
    """The old file stays, the error comes out of result() and as a warning, and the process lives."""
    script = textwrap.dedent(f"""
        import errno, resource, warnings, fluxion
        path = {str(path)!r}
        fluxion.save({{"x": 1}}, path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            future = fluxion.async_save({{"x": fluxion.ones(100_000)}}, path)
            try:
                future.result()
            except OSError as error:
                assert error.errno == errno.EFBIG, error
            else:
                raise SystemExit("no error")
        assert "was not saved" in str(caught[0].message), caught
        assert fluxion.load(path) == {{"x": 1}}
    """)
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_end_of_the_program_waits_for_the_file(path):
    script = f"""
import fluxion
fluxion.async_save({{"x": fluxion.ones(3_000_000)}}, {str(path)!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert fluxion.load(path)["x"].sum().item() == 3_000_000


# What is in a checkpoint


def test_names_in_the_file(path):
    run = Run()
    run.train(1)
    fluxion.save_checkpoint(path, **run.state())
    numpy_api = pytest.importorskip("safetensors.numpy")
    names = numpy_api.load_file(path)
    assert names["model.0.weight"].shape == (8, 6)
    assert "optimizer.state.0.exp_avg" in names
    assert "rng.default" in names


def test_several_models_and_no_more_than_asked_for(path):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    fluxion.save_checkpoint(path, model={"a": a, "b": [b]}, rng=False)
    c, d = nn.Linear(2, 2), nn.Linear(2, 2)
    assert fluxion.load_checkpoint(path, model={"a": c, "b": [d]}, rng=False) is None
    assert fluxion.equal(a.weight, c.weight) and fluxion.equal(b.weight, d.weight)


def test_gradients_of_an_accumulating_run(path):
    net = nn.Linear(3, 2)
    net(fluxion.ones(1, 3)).sum().backward()
    net.bias.grad = None
    fluxion.save_checkpoint(path, model=net, gradients=True)
    other = nn.Linear(3, 2)
    other.bias.grad = fluxion.ones(2)
    fluxion.load_checkpoint(path, model=other)
    assert fluxion.equal(net.weight.grad, other.weight.grad)
    assert other.bias.grad is None


def test_python_and_numpy_generators(path):
    random.seed(1)
    np.random.seed(2)
    fluxion.save_checkpoint(path)
    want = [random.random(), random.gauss(0, 1), np.random.rand(), float(fluxion.rand(1))]
    fluxion.load_checkpoint(path)
    got = [random.random(), random.gauss(0, 1), np.random.rand(), float(fluxion.rand(1))]
    assert got == want


def test_errors(path):
    net = nn.Linear(2, 2)
    fluxion.save_checkpoint(path, model=net)
    before = net.weight.tolist()
    with pytest.raises(ValueError, match="has no optimizer, loader; it has model, rng"):
        fluxion.load_checkpoint(
            path, model=net, optimizer=optim.SGD(net.parameters()), loader=DataLoader([1])
        )
    assert net.weight.tolist() == before
    with pytest.raises(TypeError, match="save_checkpoint: model has no state_dict: int"):
        fluxion.save_checkpoint(path, model=3)
    with pytest.raises(TypeError, match="gradients=True needs a Module"):
        fluxion.save_checkpoint(path, gradients=True)
    fluxion.save({"a": 1}, path)
    with pytest.raises(ValueError, match="was not written by save_checkpoint; use load"):
        fluxion.load_checkpoint(path)
    fluxion.save({"checkpoint": 9}, path)
    with pytest.raises(ValueError, match="has version 9, known is 1"):
        fluxion.load_checkpoint(path)


# The loader by itself


class Numbers(Dataset):
    def __len__(self):
        return 11

    def __getitem__(self, index):
        return index


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(11))


LOADERS = {
    "in order": lambda: DataLoader(Numbers(), batch_size=2),
    "shuffled": lambda: DataLoader(Numbers(), batch_size=2, shuffle=True),
    "workers": lambda: DataLoader(Numbers(), batch_size=2, shuffle=True, num_workers=3),
    "unbatched": lambda: DataLoader(Numbers(), batch_size=None, shuffle=True),
    "subset": lambda: DataLoader(
        Numbers(),
        batch_size=2,
        sampler=SubsetRandomSampler(range(9), generator=fluxion.Generator().manual_seed(5)),
    ),
    "weighted": lambda: DataLoader(
        Numbers(), batch_size=2, sampler=WeightedRandomSampler([1.0] * 11, 11)
    ),
    "stream": lambda: DataLoader(Stream(), batch_size=2),
    "stream with workers": lambda: DataLoader(Stream(), batch_size=2, num_workers=2),
}


def plain(batch):
    return batch.tolist() if isinstance(batch, fluxion.Tensor) else batch


def rows(loader):
    return [plain(batch) for batch in loader]


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_loader_goes_on_in_the_middle_of_a_pass(kind, taken):
    fluxion.manual_seed(7)
    loader = LOADERS[kind]()
    rows(loader)
    batches = iter(loader)
    for _ in range(taken):
        next(batches)
    state, rng = loader.state_dict(), fluxion.get_rng_state()
    rest = [plain(b) for b in batches]
    later = rows(loader)

    fluxion.manual_seed(100)
    other = LOADERS[kind]()
    fluxion.set_rng_state(rng)
    other.load_state_dict(state)
    assert rows(other) == rest
    assert rows(other) == later


def test_batches_given_out_are_not_fetched_again():
    class Counting(Numbers):
        fetched = 0

        def __getitem__(self, index):
            Counting.fetched += 1
            return index

    loader = DataLoader(Counting(), batch_size=2)
    batches = iter(loader)
    for _ in range(4):
        next(batches)
    state = loader.state_dict()
    Counting.fetched = 0
    other = DataLoader(Counting(), batch_size=2)
    other.load_state_dict(state)
    assert len(rows(other)) == 2
    assert Counting.fetched == 3


def test_a_pass_that_was_left_is_over():
    loader = DataLoader(Numbers(), batch_size=2, shuffle=True)
    for _ in loader:
        break
    assert loader.state_dict()["position"] is None


def test_a_sampler_with_a_state_of_its_own():
    class Counter(fluxion.utils.data.Sampler):
        def __init__(self):
            self.first = 0

        def __iter__(self):
            self.first += 1
            return iter(range(self.first, self.first + 4))

        def __len__(self):
            return 4

        def state_dict(self):
            return {"first": self.first}

        def load_state_dict(self, state):
            self.first = state["first"]

    loader = DataLoader(Numbers(), sampler=Counter(), batch_size=1)
    rows(loader)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    rest = [plain(b) for b in batches]
    later = rows(loader)
    other = DataLoader(Numbers(), sampler=Counter(), batch_size=1)
    other.load_state_dict(state)
    assert rows(other) == rest
    assert rows(other) == later


def test_loader_errors():
    loader = DataLoader(
        Numbers(), batch_size=2, shuffle=True, generator=fluxion.Generator().manual_seed(1)
    )
    state = loader.state_dict()
    with pytest.raises(ValueError, match="this loader has none"):
        DataLoader(Numbers(), batch_size=2, shuffle=True).load_state_dict(state)
    with pytest.raises(ValueError, match="needs what state_dict gave"):
        loader.load_state_dict({})
    loose = DataLoader(Numbers(), num_workers=2, in_order=False)
    batches = iter(loose)
    next(batches)
    with pytest.raises(ValueError, match="in_order=False"):
        loose.state_dict()
