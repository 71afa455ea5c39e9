"""Memory: flat over ten thousand training steps without the garbage collector, old bytes kept only while somebody needs them."""

import gc
import os

import pytest

import fluxion as fx
from checks import exact

PAGE = os.sysconf("SC_PAGE_SIZE")
MEGABYTE = 1 << 20


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * PAGE


def assert_flat(step, times, warm_up):
    """`step` repeated does not grow the process, with the garbage collector off; and leaves it nothing to do."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(warm_up):
            step()
        before = resident()
        for _ in range(times):
            step()
        grown = resident() - before
        assert gc.collect() == 0, "reference cycles"
    finally:
        gc.enable()
    assert grown < MEGABYTE, f"{grown} bytes in {times} steps"


def by_hand():
    """A two-layer network in plain tensors."""
    w = [fx.randn(16, 8).requires_grad_(), fx.randn(8, 1).requires_grad_()]
    x, y = fx.randn(32, 16), fx.randn(32, 1)

    def step():
        loss = (
            (((x[:, :, None] * w[0]).sum(1).tanh()[:, :, None] * w[1]).sum(1) - y).square().mean()
        )
        loss.backward()
        with fx.no_grad():
            for p in w:
                p -= 0.01 * p.grad
                p.grad = None
        assert loss.item() >= 0

    return step


def with_modules():
    nn = fx.nn
    model = nn.Sequential(
        nn.Linear(16, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    )
    optimizer = fx.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = fx.randn(32, 16), fx.randint(0, 3, (32,))

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


class Double(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2 + 0 * ctx.saved_tensors[0]


class DoubleInPlace(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, g):
        return g * 2


def everything_else():
    """Views, writes, hooks, custom functions, second derivatives, errors, interop."""
    x = fx.randn(8, 8).requires_grad_()
    out = fx.zeros(0)

    def step():
        y = DoubleInPlace.apply(Double.apply(x) * 1)
        y.retain_grad()
        handle = y.register_hook(lambda g: g * 2)
        y[1:3, ::2] = y[0, :4] * 2
        y.t()[0].mul_(3)
        (g,) = fx.autograd.grad(y.square().sum(), x, create_graph=True)
        g.square().sum().backward(create_graph=True)
        x.grad = None
        handle.remove()
        for bad in (
            lambda: x + fx.ones(3),
            lambda: x.view(7),
            lambda: fx.ones(2).backward(),
            lambda: x.add_(1),
        ):
            with pytest.raises(RuntimeError):
                bad()
        fx.add(x.detach(), 1, out=out)
        out.resize_(0)
        exact(x)[0].tolist()
        fx.from_numpy(x.detach().numpy()).data = fx.ones(3)
        repr(x)
        x.detach().max(0), x.detach().unbind(), list(x.detach())

    return step


@pytest.mark.slow
@pytest.mark.parametrize(
    "program, times", [(by_hand, 10_000), (with_modules, 10_000), (everything_else, 2_000)]
)
def test_training_does_not_grow(program, times):
    assert_flat(program(), times, times // 5)


def test_abandoned_graphs_are_freed():
    x = fx.ones(256, 1024, requires_grad=True)  # a megabyte

    def step():
        y = x
        for _ in range(4):
            y = y * x
        y[0].exp_()

    assert_flat(step, 300, 50)


def test_big_blocks_come_back():
    def step():
        fx.zeros(3, MEGABYTE).add_(1).sum().item()

    assert_flat(step, 50, 5)


def test_peak_of_an_in_place_chain():
    """In-place ops without gradients need no second tensor that stays."""
    x = fx.ones(16 * MEGABYTE)
    before = resident()
    for _ in range(10):
        x.mul_(1.0).add_(0).clamp_(0, 2)
    assert resident() - before < 200 * MEGABYTE
    assert x[-1].item() == 1


def test_snapshots_copy_only_for_those_who_need_them():
    copied = fx._C._snapshot_bytes_copied
    w = fx.ones(1000, requires_grad=True)
    start = copied()
    with fx.no_grad():
        w.add_(1)
    assert copied() == start, "nobody holds the old bytes"
    loss = (w * w).sum()
    with fx.no_grad():
        w.add_(1)
        w.add_(1)
    assert copied() == start + 4000, "one copy, at the first write"
    loss.backward()
    assert w.grad[0].item() == 4
    with fx.no_grad():
        w.add_(1)
    assert copied() == start + 4000, "the backward pass has let the copy go"
    del loss
    loss = (w + 1).sum()  # saves no values
    with fx.no_grad():
        w.add_(1)
    assert copied() == start + 4000 and loss.requires_grad


def test_tensors_die_at_once():
    """Memory goes with the last reference: a write is free again as soon as the graph is dropped."""
    copied = fx._C._snapshot_bytes_copied
    w = fx.ones(10, requires_grad=True)
    loss = (w * w).sum()
    del loss
    start = copied()
    with fx.no_grad():
        w.add_(1)
    assert copied() == start
