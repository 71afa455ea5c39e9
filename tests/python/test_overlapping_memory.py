"""Memory that is reached twice: views whose elements share places, outputs that are inputs, sources that are targets."""

import numpy as np
import pytest

import fluxion as fx


def leaf(*shape):
    return fx.arange(float(np.prod(shape))).reshape(shape).requires_grad_()


@pytest.mark.parametrize("dtype", [fx.float32, fx.float64, fx.float16, fx.bfloat16])
@pytest.mark.parametrize(
    ("view", "counts"),
    [
        (lambda b: b.expand(3, 4), [3, 3, 3, 3]),
        (lambda b: b.unfold(0, 2, 1), [1, 2, 2, 1]),
        (lambda b: b.unfold(0, 3, 1).transpose(0, 1), [1, 2, 2, 1]),
        (lambda b: b[::-1].unfold(0, 2, 1), [1, 2, 2, 1]),
        (lambda b: b.as_strided((2, 2), (1, 1), 1), [0, 1, 2, 1]),
        (lambda b: b.as_strided((5,), (0,), 2), [0, 0, 5, 0]),
    ],
)
def test_views_that_share_places_sum_their_gradients(view, counts, dtype):
    """The view is older than a write to its base, so its history is read from the base anew."""
    w = fx.ones(4, dtype=dtype, requires_grad=True)
    base = w * 1
    shared = view(base)
    base.mul_(2)
    shared.sum().backward()
    assert w.grad.tolist() == [2 * n for n in counts]


def test_second_gradient_through_shared_places():
    w = leaf(4)
    base = w * w
    windows = base.unfold(0, 2, 1)
    base.mul_(1)
    (g,) = fx.autograd.grad((windows**2).sum(), w, create_graph=True)
    (gg,) = fx.autograd.grad(g.sum(), w)
    counts = np.array([1, 2, 2, 1])
    x = np.arange(4.0)
    assert (
        g.tolist() == (counts * 4 * x**3).tolist() and gg.tolist() == (counts * 12 * x**2).tolist()
    )


def test_as_strided_is_a_view():
    x = fx.arange(12.0)
    y = x.as_strided((3, 2), (4, 1), 1)
    assert y.tolist() == [[1, 2], [5, 6], [9, 10]] and y.stride() == (4, 1)
    assert y.storage_offset() == 1 and y.data_ptr() == x.data_ptr() + 4
    y.zero_()
    assert x.sum().item() == 66 - 33
    assert fx.as_strided(x[2:], (2,), (3,)).tolist() == [0, 0]
    assert x[2:].as_strided((2,), (1,), 3).tolist() == [3, 4]
    assert x[3:].as_strided((2,), (-1,)).tolist() == [3, 0]
    assert x.as_strided((0, 5), (7, 1), 12).shape == (0, 5)
    for size, stride, offset in [
        ((13,), (1,), 0),
        ((2,), (-1,), 0),
        ((1,), (1,), 12),
        ((2,), (2**62,), 0),
    ]:
        with pytest.raises(RuntimeError, match="as_strided: shape .* outside a storage of 12"):
            x.as_strided(size, stride, offset)
    with pytest.raises(RuntimeError, match="2 sizes and 1 strides"):
        x.as_strided((2, 2), (1,))
    with pytest.raises(NotImplementedError, match="contiguous"):
        fx.ones(1, requires_grad=True).expand(3).as_strided((1,), (1,))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("make", "size", "stride", "offset"),
    [
        (lambda w: w, (2, 3), (1, 2), None),
        (lambda w: w, (3, 3), (2, 1), 1),
        (lambda w: w.t(), (2, 2), (3, 1), 2),
        (lambda w: w[1:], (2, 2), (4, 1), 0),
        (lambda w: w[:, 1:], (6,), (1,), None),
        (lambda w: w[0], (3, 4), (4, 1), 0),
    ],
)
def test_as_strided_gradients_are_those_of_pytorch(torch, make, size, stride, offset):
    def gradients(T):
        w = T.arange(12.0).reshape(3, 4).requires_grad_()
        x = make(w * 1)
        y = T.as_strided(x, size, stride, offset)
        (g,) = T.autograd.grad((y**3).sum(), w, create_graph=True)
        (gg,) = T.autograd.grad((g**2).sum(), w)
        return y.tolist(), g.tolist(), gg.tolist()

    assert gradients(fx) == gradients(torch)


def test_writes_through_as_strided_have_history():
    w = leaf(2)
    x = fx.zeros(4)
    x.as_strided((2,), (2,), 1).copy_(w * 3)
    assert x.tolist() == [0, 0, 0, 3]
    (x * fx.tensor([1.0, 10, 100, 1000])).sum().backward()
    assert w.grad.tolist() == [30, 3000]


OUT_OVERLAPS = [
    lambda x: fx.add(x[:-1], 1, out=x[1:]),
    lambda x: fx.cumsum(x[:-1], 0, out=x[1:]),
    lambda x: fx.cat([x[:2], x[2:4]], out=x[1:5]),
    lambda x: fx.index_select(x[:5], 0, fx.tensor([1, 2, 3, 0, 0]), out=x[1:]),
    lambda x: fx.sort(x[:5], out=(x[1:], fx.empty(5, dtype=fx.int64))),
    lambda x: fx.where(fx.ones(5, dtype=fx.bool), x[:5], x[1:], out=x[1:]),
    lambda x: fx.add(x[3:], 1, out=x[4:1:-1]),
]


@pytest.mark.parametrize("call", OUT_OVERLAPS)
def test_out_that_overlaps_an_argument_is_refused(call):
    x = fx.arange(6.0)
    with pytest.raises(RuntimeError, match="overlapping memory"):
        call(x)
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_out_may_be_an_argument():
    x = fx.arange(6.0)
    assert fx.add(x, 1, out=x) is x and x.tolist() == [1, 2, 3, 4, 5, 6]
    assert fx.add(x[:3], 1, out=x[3:]).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x[0:4].copy_(x[4:0:-1]),
        lambda x: x[4:0:-1].copy_(x[0:4]),
        lambda x: x[:3].add_(x[4:1:-1]),
        lambda x: x.__setitem__(slice(0, 4), x[4:0:-1]),
    ],
)
def test_reversed_views_overlap_too(write):
    x = fx.arange(6.0)
    with pytest.raises(RuntimeError, match="overlapping memory"):
        write(x)
    x[0:2] = x[5:3:-1]
    assert x.tolist() == [5, 4, 2, 3, 4, 5]


def ints():
    return fx.tensor([1, 1, 2, 0])


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda x: x.scatter_(0, x, 7), [7, 7, 7, 0]),
        (lambda x: x.scatter_(0, x[:], fx.arange(4)), [3, 1, 2, 0]),
        (lambda x: x.scatter_add_(0, x, x), [1, 3, 4, 0]),
        (lambda x: x.__setitem__(x, 7), [7, 7, 7, 0]),
        (lambda x: x.index_put_((x,), x, accumulate=True), [1, 3, 4, 0]),
        (lambda x: x.index_add_(0, fx.tensor([1, 2, 3]), x[:3]), [1, 2, 3, 2]),
        (lambda x: x.index_copy_(0, fx.tensor([1, 2, 3]), x[:3]), [1, 1, 1, 2]),
        (lambda x: x.index_copy_(0, x, fx.arange(4)), [3, 1, 2, 0]),
        (lambda x: x.index_fill_(0, x[:2], 9), [1, 9, 2, 0]),
    ],
)
def test_indices_and_sources_that_are_the_target(write, expected):
    x = ints()
    write(x)
    assert x.tolist() == expected


def test_masks_that_are_the_target():
    x = fx.tensor([True, False, True, True])
    assert x.masked_fill_(x, False).tolist() == [False] * 4
    x = fx.tensor([[False, True], [False, False]])
    with pytest.raises(RuntimeError, match="overlapping memory"):
        x.masked_fill_(x.t(), True)
    assert x.tolist() == [[False, True], [False, False]]
    x = fx.tensor([True, False, False, False, False, True])
    x[::2].masked_fill_(x[:3], True)
    assert x.tolist() == [True, False, False, False, False, True]
