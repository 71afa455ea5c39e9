"""Several Python threads at once: kernels run without the GIL while others edit, drop and differentiate."""

import subprocess
import sys
import threading

import pytest

import fluxion

STRESS = """
import sys, threading, time
import fluxion

n = 400_000
x, w = fluxion.rand(n), fluxion.nn.Parameter(fluxion.rand(n))
failures = []


def forever(function):
    def run():
        try:
            while time.monotonic() < end:
                function()
        except BaseException as error:
            failures.append(repr(error))

    return threading.Thread(target=run)


def read():
    (x * x).sum(), x.sort(), fluxion.cumsum(x, 0), x.exp()


def edit():
    x.data = fluxion.rand(10)
    x.resize_(n)
    x.set_(fluxion.rand(5))
    x.data = fluxion.rand(n)
    fluxion._C._empty_cache()


def train():
    (w * w).sum().backward()
    optimizer.step()


def drop():
    w.grad = None
    w.data = fluxion.rand(n)
    fluxion._C._empty_cache()


optimizer = fluxion.optim.SGD([w], lr=0.1)
end = time.monotonic() + 2
threads = [forever(function) for function in (read, read, edit, train, drop)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
sys.exit(str(failures) if failures else any(thread.is_alive() for thread in threads))
"""


def test_editing_handles_while_kernels_read_them():
    """Without waiting for the kernels this frees memory under them and crashes."""
    done = subprocess.run([sys.executable, "-c", STRESS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run_together(count, function):
    failures = []

    def run(i):
        try:
            function(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_threads_that_share_a_leaf_lose_no_gradient():
    w = fluxion.zeros(300_000, requires_grad=True)
    rounds = 20

    def work(i):
        for _ in range(rounds):
            (w * float(i + 1)).sum().backward()

    run_together(4, work)
    assert (w.grad == rounds * (1 + 2 + 3 + 4)).all()


def test_threads_that_share_a_graph_get_gradients_of_their_own():
    w = fluxion.ones(100_000, requires_grad=True)
    shared = (w * 2).exp()
    wanted = fluxion.autograd.grad(shared.sum(), w, retain_graph=True)[0]

    def work(i):
        for _ in range(10):
            (got,) = fluxion.autograd.grad((shared * float(i + 1)).sum(), w, retain_graph=True)
            assert (got == wanted * float(i + 1)).all()

    run_together(4, work)


def test_a_forked_child_edits_while_the_parent_computes():
    """The child has none of the parent's threads, so it waits for none of them."""
    code = """
import os, threading
import fluxion

x = fluxion.rand(2_000_000)
done = threading.Event()

def work():
    while not done.is_set():
        x.sort()

thread = threading.Thread(target=work)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        x.data = fluxion.rand(3)
        os._exit(0 if x.shape == (3,) else 1)
    assert os.waitpid(child, 0)[1] == 0
done.set()
thread.join()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# Shared memory


def test_share_memory_refuses_to_leave_other_handles_behind():
    x = fluxion.arange(4.0)
    view = x[1:]
    with pytest.raises(RuntimeError, match="share_memory_: 1 other holders of this memory"):
        x.share_memory_()
    assert not x.is_shared()
    del view
    x.share_memory_()
    x[1:].fill_(7)  # views made afterwards are views of the shared memory
    assert x.is_shared() and x[1:].is_shared() and x.tolist() == [0, 7, 7, 7]
    assert x[1:].share_memory_().data_ptr() == x[1:].data_ptr()


def test_a_tensor_is_shared_once_its_graph_is_gone():
    x = fluxion.arange(3.0, requires_grad=True)
    y = (x * x).sum()
    with pytest.raises(RuntimeError, match="values saved for a gradient"):
        x.share_memory_()
    y.backward()
    x.share_memory_()
    assert x.is_shared() and x.grad.tolist() == [0, 2, 4]


def test_a_shared_module_trains_in_forked_children():
    import os

    model = fluxion.nn.Sequential(fluxion.nn.Linear(2, 2), fluxion.nn.BatchNorm1d(2))
    model[0].bias = model[1].bias  # tied: shared once
    assert model.share_memory() is model
    assert all(t.is_shared() for t in (*model.parameters(), *model.buffers()))
    child = os.fork()
    if child == 0:
        optimizer = fluxion.optim.SGD(model.parameters(), lr=1.0)
        for parameter in model.parameters():
            parameter.grad = fluxion.ones_like(parameter)
        before = model[1].bias.tolist()
        optimizer.step()
        os._exit(0 if model[1].bias.tolist() != before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert model[1].bias.tolist() == [-1, -1]
