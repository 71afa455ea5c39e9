"""Views: shapes, strides and aliasing as PyTorch gives them (recorded by tests/tools/record_views.py), writes through them."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import fluxion as fx
from checks import assert_same

DATA = json.loads((Path(__file__).parent / "data/views.json").read_text())


def outcome(base, expression):
    x = eval(base, {"fx": fx})
    try:
        y = eval(expression, {"fx": fx, "x": x})
    except (RuntimeError, IndexError, ValueError, TypeError):
        return "raises"
    if y.numel() == 0:
        return [list(y.shape)]
    strides = [s for n, s in zip(y.shape, y.stride(), strict=True) if n > 1]
    start = [t.data_ptr() - t.storage_offset() * t.element_size() for t in (x, y)]
    shares = start[0] == start[1]
    values = None if shares or expression.startswith("fx.empty") else y.flatten().tolist()
    return [list(y.shape), strides, y.storage_offset(), shares, values]


@pytest.mark.parametrize("base", DATA["views"])
def test_views(base):
    got = {e: outcome(base, e) for e in DATA["views"][base]}
    assert got == DATA["views"][base]


@pytest.mark.parametrize("base", DATA["layouts"])
def test_layouts_of_results(base):
    got = {e: outcome(base, e) for e in DATA["layouts"][base]}
    assert got == DATA["layouts"][base]


# --- what PyTorch does not have: negative steps


@pytest.mark.parametrize(
    "index",
    list(
        itertools.product(
            [slice(None, None, -1), slice(4, 1, -2), slice(-2, None, -3), slice(0, 3)], repeat=2
        )
    ),
)
def test_negative_steps(index):
    a = np.arange(42).reshape(6, 7)
    x = fx.from_numpy(a)
    y = x[index]
    assert y.tolist() == a[index].tolist()
    assert (
        y.stride() == tuple(s // 8 for s in a[index].strides)
        and y.data_ptr() == a[index].ctypes.data
    )
    assert_same(y + y, y.contiguous() * 2)
    assert y.sum(0).tolist() == a[index].sum(0).tolist()
    y += 100
    assert x.tolist() == a.tolist(), "a view, so NumPy sees the write"
    assert y[::-1, ::-1].tolist() == a[index][::-1, ::-1].tolist()


def test_negative_strides_cross_to_numpy_and_back():
    a = np.arange(6.0)[::-1]
    x = fx.from_numpy(a)
    assert x.stride() == (-1,) and x.tolist() == [5, 4, 3, 2, 1, 0]
    assert x.numpy().strides == a.strides and x.numpy().ctypes.data == a.ctypes.data
    assert x.contiguous().stride() == (1,) and x.reshape(2, 3).tolist() == [[5, 4, 3], [2, 1, 0]]


def test_gradient_through_negative_steps():
    x = fx.arange(5.0, requires_grad=True)
    (x[::-2] * fx.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [3, 0, 2, 0, 1]


# --- identity and metadata


def test_view_bookkeeping():
    x = fx.arange(6.0)
    y = x.view(2, 3)
    assert y._is_view() and not x._is_view() and y._base is x and y.t()[0]._base is x
    assert x.contiguous() is x and x.reshape(6) is not x and x.to(fx.float32) is x
    assert y.is_contiguous() and not y.t().is_contiguous() and y.t().t().is_contiguous()
    assert (
        y.numel() == 6
        and y.dim() == y.ndim == 2
        and y.size() == y.shape == (2, 3)
        and y.size(-1) == 3
        and y.stride(0) == 3
    )
    assert y[1].storage_offset() == 3 and y[1].data_ptr() == x.data_ptr() + 12
    before = x._version
    y[0, 0] = 7
    assert x._version == before + 1 == y._version and x[0].item() == 7


def test_writes_reach_every_view():
    x = fx.zeros(2, 3, 4)
    views = [
        x.view(-1),
        x.transpose(0, 2),
        x[1],
        x[..., 1:3],
        x.unsqueeze(0),
        x.flatten(1),
        x.T,
        x.detach(),
        x.data,
    ]
    x.add_(1)
    for v in views:
        assert v.min().item() == 1
    for k, v in enumerate(views):
        v.fill_(k)
        assert x.max().item() == k
    x.movedim(0, -1)[2, 3, 1] = 99
    assert x[1, 2, 3].item() == 99


def test_view_of_other_dtype():
    x = fx.tensor([1.0, -2.0])
    assert x.view(fx.int32).tolist() == np.array([1, -2], np.float32).view(np.int32).tolist()
    x.view(fx.uint8)[3] |= 128
    assert x.tolist() == [-1, -2]
    assert x.view(fx.float64).shape == (1,) and x.view(fx.int16).shape == (4,)
    with pytest.raises(RuntimeError):
        fx.zeros(3).view(fx.float64)


@pytest.mark.parametrize(
    "write",
    [
        lambda y: y.add_(1),
        lambda y: y.zero_(),
        lambda y: y.copy_(fx.ones(3, 3)),
        lambda y: fx.add(y, 1, out=y),
    ],
)
def test_overlapping_targets_are_refused(write):
    y = fx.ones(3, 1).expand(3, 3)
    with pytest.raises(RuntimeError, match="single memory location"):
        write(y)
    with pytest.raises(RuntimeError, match="single memory location"):
        y[0] = 5
    x = fx.arange(9).view(3, 3)
    for copy in (lambda: x.copy_(x.t()), lambda: x[1:].copy_(x[:-1]), lambda: x[:-1].add_(x[1:])):
        with pytest.raises(RuntimeError, match="overlapping memory"):
            copy()
    assert x.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]], "a refused write has written nothing"


def test_more_than_a_few_dims():
    x = fx.arange(2**10).view([2] * 10)
    y = x.permute(*reversed(range(10)))
    assert y.contiguous().view(-1)[1].item() == 512 and (y + x).shape == (2,) * 10
    assert x.sum((0, 3, 9)).shape == (2,) * 7
    with pytest.raises(RuntimeError, match="dims"):
        fx.zeros([1] * 17)


def test_resize_and_set():
    x = fx.arange(6.0)
    x.resize_(2, 2)
    assert x.tolist() == [[0, 1], [2, 3]]
    x.resize_(3, 3)
    assert x.shape == (3, 3) and x.view(-1)[:4].tolist() == [0, 1, 2, 3]
    y = fx.zeros(4)
    y.set_(x)
    assert y.shape == (3, 3) and y.data_ptr() == x.data_ptr()


def test_data_exchange_with_numpy_is_zero_copy():
    a = np.zeros((2, 3), np.int16)
    x = fx.from_numpy(a)
    x[0] = 5
    a[1] = 7
    assert x.tolist() == a.tolist() == [[5, 5, 5], [7, 7, 7]]
    assert x.numpy().ctypes.data == a.ctypes.data == x.t().numpy().ctypes.data
    assert np.asarray(x).dtype == np.int16 and fx.as_tensor(a).data_ptr() == x.data_ptr()
    assert fx.tensor(a).data_ptr() != x.data_ptr()
    assert fx.zeros(2, 0, 3).unbind(-1)[2].numpy().shape == (2, 0)
    b = np.from_dlpack(x)
    b[0, 0] = 1
    assert x[0, 0].item() == 1 and fx.from_dlpack(b).data_ptr() == x.data_ptr()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("unsqueeze", (0,)),
        ("unsqueeze", (-1,)),
        ("squeeze", ()),
        ("squeeze", (1,)),
        ("t", ()),
        ("transpose", (0, 1)),
    ],
)
def test_views_in_place(name, arguments):
    x = fx.arange(3.0).view(3, 1)
    wanted = getattr(x, name)(*arguments)
    view = x[1:]
    assert getattr(x, name + "_")(*arguments) is x
    assert x.shape == wanted.shape and x.stride() == wanted.stride()
    view.fill_(7)
    assert x.flatten().tolist() == [0, 7, 7]
    y = fx.ones(3, 1, requires_grad=True)
    for tracked in (y, y * 2):
        with pytest.raises(RuntimeError, match=rf"{name}_: .* Use x = x.{name}\(...\)"):
            getattr(tracked, name + "_")(*arguments)


def test_second_names():
    x, y = fx.tensor([-2.0, 0.5, 3.0]), fx.tensor([1.0, 0.5, -1.0])
    pairs = {
        "subtract": "sub",
        "multiply": "mul",
        "divide": "div",
        "greater": "gt",
        "greater_equal": "ge",
        "less": "lt",
        "less_equal": "le",
        "not_equal": "ne",
        "ger": "outer",
    }
    for second, first in pairs.items():
        assert (getattr(fx, second)(x, y) == getattr(x, first)(y)).all()
    for second, first in {"negative": "neg", "absolute": "abs", "fix": "trunc"}.items():
        assert (getattr(x, second)() == getattr(x, first)()).all()
    for second in ("arccos", "arcsin", "arctan"):
        assert (getattr(fx, second)(y) == getattr(fx, second.replace("arc", "a"))(y)).all()
    assert fx.clip(x, 0, 1).tolist() == x.clone().clip_(min=0, max=1).tolist() == [0, 0.5, 1]
