"""Order and running reductions along a dim: NumPy's results, NaN and ties, gradients by finite differences."""

import numpy as np
import pytest

import fluxion as fx
from checks import assert_same, tensor
from test_index_ops import DTYPES, check_gradient, same, sample


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 300), (2, 1000), (4, 0)])
def test_sort_is_stable(rng, shape, dtype):
    x = sample(rng, shape, dtype)
    for dim in range(len(shape)):
        values, places = fx.sort(fx.tensor(x), dim)
        expected = np.argsort(x, dim, kind="stable")
        same(places, expected)
        same(values, np.take_along_axis(x, expected, dim))
        same(fx.tensor(x).argsort(dim), expected)
        backwards = np.argsort(-x.astype("float64"), dim, kind="stable")
        values, places = fx.tensor(x).sort(dim, descending=True)
        same(places, backwards)
        same(values, np.take_along_axis(x, backwards, dim))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("n", [9, 2000])
def test_sort_puts_nan_last(rng, n, dtype):
    x = rng.standard_normal(n).astype(dtype)
    x[rng.integers(0, n, n // 3)] = np.nan
    x[:4] = [-np.inf, np.inf, -0.0, 0.0]
    values, places = fx.sort(fx.tensor(x))
    order = np.argsort(x, kind="stable")
    same(places, order)
    np.testing.assert_array_equal(values.numpy(), x[order])
    first, _ = fx.sort(fx.tensor(x), descending=True)
    assert np.isnan(first.numpy()[: np.isnan(x).sum()]).all()


def test_bfloat16(rng):
    x = tensor(rng.standard_normal((4, 300)), "bfloat16")
    x[0, :3] = fx.tensor([float("nan"), -float("inf"), -0.0], dtype=fx.bfloat16)
    for ours, wide in zip(x.sort(1), x.float().sort(1)):
        assert_same(ours, wide.to(ours.dtype))
    assert_same(x.topk(3, 1).indices, x.float().topk(3, 1).indices)
    assert_same(x.cumsum(1), x.float().cumsum(1).bfloat16())
    assert_same(x.cummax(1).indices, x.float().cummax(1).indices)


def test_sort_of_extreme_integers():
    for dtype in ("int8", "int16", "int32", "int64"):
        limits = np.iinfo(dtype)
        x = np.array([0, limits.max, -1, limits.min, 1], dtype)
        same(fx.sort(fx.tensor(x)).values, np.sort(x))
        same(fx.sort(fx.tensor(x), descending=True).values, np.sort(x)[::-1].copy())


def test_sort_of_views(rng):
    x = sample(rng, (4, 6))
    same(fx.tensor(x).T.sort(0).values, np.sort(x.T, 0))
    same(fx.tensor(x)[:, ::2].sort(1).values, np.sort(x[:, ::2], 1))
    same(fx.tensor(x).msort(), np.sort(x, 0))
    assert fx.sort(fx.tensor(3.0)).indices.item() == 0


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("k", [0, 1, 3, 40, 100])
def test_topk(rng, k, largest):
    x = rng.permutation(100 * 4).reshape(4, 100).astype("float32")
    order = np.argsort(-x if largest else x, 1)[:, :k]
    values, places = fx.topk(fx.tensor(x), k, largest=largest)
    same(places, order)
    same(values, np.take_along_axis(x, order, 1))
    values, places = fx.tensor(x).T.topk(k, 0, largest)
    same(places, order.T)


def test_topk_takes_the_first_of_equals():
    assert fx.tensor([1, 3, 3, 2, 3]).topk(2).indices.tolist() == [1, 2]
    assert fx.tensor([1.0, float("nan"), 2.0]).topk(1).indices.item() == 1


def test_kthvalue_and_median(rng):
    x = rng.standard_normal((5, 8)).astype("float32")
    values, places = fx.kthvalue(fx.tensor(x), 3, 1)
    same(values, np.sort(x, 1)[:, 2])
    same(fx.kthvalue(fx.tensor(x), 3, 0, keepdim=True).values, np.sort(x, 0)[2:3])
    same(places, np.argsort(x, 1)[:, 2])
    same(fx.median(fx.tensor(x), 1).values, np.sort(x, 1)[:, 3])
    same(fx.median(fx.tensor(x), 0, keepdim=True).values, np.sort(x, 0)[2:3])
    assert fx.median(fx.tensor(x)).item() == np.sort(x.ravel())[19]


@pytest.mark.parametrize("n", [40, 1000])
def test_sort_of_wide_and_narrow_integers(rng, n):
    for spread in (10, 2**31, 2**40):
        x = rng.integers(-spread, spread, (2, n))
        same(fx.sort(fx.tensor(x), 1).indices, np.argsort(x, 1, kind="stable"))
        same(fx.sort(fx.tensor(x), 1, descending=True).indices, np.argsort(-x, 1, kind="stable"))


def test_median_and_nan():
    x = fx.tensor([[3.0, float("nan"), 1.0, float("nan"), 2.0]])
    assert fx.median(x, 1).indices.item() == 1
    assert np.isnan(x.median().item())
    assert x.nanmedian().item() == 2.0
    assert fx.nanmedian(x, 1).indices.item() == 4
    assert np.isnan(fx.tensor([float("nan")]).nanmedian().item())
    assert np.isnan(fx.zeros(0).median().item())


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool", "uint8"])
@pytest.mark.parametrize("shape", [(40,), (5, 6), (0,), (1,)])
def test_unique(rng, shape, dtype):
    x = sample(rng, shape, dtype) // 10 if dtype != "bool" else sample(rng, shape, dtype)
    x = x.astype(dtype)
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    same(fx.unique(fx.tensor(x)), values)
    ours = fx.tensor(x).unique(return_inverse=True, return_counts=True)
    same(ours[0], values)
    same(ours[1], inverse.reshape(x.shape))
    same(ours[2], counts)


def test_unique_of_rows(rng):
    x = rng.integers(0, 2, (20, 3))
    for dim in (0, 1):
        values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True, axis=dim)
        ours = fx.unique(fx.tensor(x), return_inverse=True, return_counts=True, dim=dim)
        same(ours[0], values)
        same(ours[1], inverse.reshape(-1))
        same(ours[2], counts)


def test_unique_consecutive():
    x = fx.tensor([1, 1, 2, 2, 2, 1])
    values, inverse, counts = fx.unique_consecutive(x, return_inverse=True, return_counts=True)
    assert (values.tolist(), inverse.tolist(), counts.tolist()) == (
        [1, 2, 1],
        [0, 0, 1, 1, 1, 2],
        [2, 3, 1],
    )


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64", "uint8"])
def test_searchsorted(rng, dtype):
    edges = np.sort(rng.integers(0, 50, 20)).astype(dtype)
    x = rng.integers(0, 60, (7, 9)).astype(dtype)
    for right in (False, True):
        side = "right" if right else "left"
        same(
            fx.searchsorted(fx.tensor(edges), fx.tensor(x), right=right),
            np.searchsorted(edges, x, side),
        )
        same(
            fx.searchsorted(fx.tensor(edges), fx.tensor(x), side=side),
            np.searchsorted(edges, x, side),
        )
        same(
            fx.bucketize(fx.tensor(x), fx.tensor(edges), right=right),
            np.digitize(x, edges, not right),
        )
    mixed = rng.permutation(edges)
    order = fx.tensor(mixed).argsort()
    same(fx.searchsorted(fx.tensor(mixed), fx.tensor(x), sorter=order), np.searchsorted(edges, x))
    rows = np.sort(rng.integers(0, 50, (7, 11)), 1).astype(dtype)
    expected = np.stack([np.searchsorted(r, v) for r, v in zip(rows, x)]).astype("int32")
    same(fx.searchsorted(fx.tensor(rows), fx.tensor(x), out_int32=True), expected)
    assert fx.searchsorted(fx.tensor([1.0, 3.0]), 2).item() == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9,), (3, 4), (2, 5, 3), (3, 0)])
def test_cumsum_and_cumprod(rng, shape, dtype):
    x = rng.integers(0, 2 if dtype == "bool" else 3, shape).astype(dtype)
    result = dtype if dtype.startswith("float") else "int64"
    for dim in range(len(shape)):
        same(fx.cumsum(fx.tensor(x), dim), np.cumsum(x, dim, dtype=result))
        same(fx.tensor(x).cumprod(dim), np.cumprod(x, dim, dtype=result))
    same(fx.tensor(x).cumsum(-1, dtype=fx.float64), np.cumsum(x, -1, dtype="float64"))


def test_cumsum_is_in_order(rng, threads):
    x = rng.standard_normal((300, 400)).astype("float32")
    for dim in (0, 1):
        same(fx.tensor(x).cumsum(dim), np.cumsum(x, dim))


def test_half_cumsum_accumulates_in_float32():
    x = np.full(4096, 1.0, "float16")
    same(fx.tensor(x).cumsum(0), np.cumsum(x, dtype="float32").astype("float16"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cummax_and_cummin(rng, dtype):
    x = sample(rng, (4, 9), dtype) if dtype == "bool" else rng.integers(0, 5, (4, 9)).astype(dtype)
    for dim in (0, 1):
        values, places = fx.cummax(fx.tensor(x), dim)
        same(values, np.maximum.accumulate(x, dim))
        same(fx.tensor(x).gather(dim, places), np.maximum.accumulate(x, dim))
        same(fx.cummin(fx.tensor(x), dim).values, np.minimum.accumulate(x, dim))
    assert fx.cummax(fx.tensor([1, 3, 3, 2]), 0).indices.tolist() == [0, 1, 2, 2]


def test_cummax_keeps_nan():
    values, places = fx.cummax(fx.tensor([1.0, float("nan"), 5.0]), 0)
    assert np.isnan(values.numpy()[1:]).all()
    assert places.tolist() == [0, 1, 1]


def test_diff(rng):
    x = sample(rng, (4, 6), "int64")
    same(fx.diff(fx.tensor(x)), np.diff(x))
    same(fx.diff(fx.tensor(x), 2, 0), np.diff(x, 2, 0))
    same(fx.diff(fx.tensor(x), prepend=fx.tensor(x[:, :1])), np.diff(x, prepend=x[:, :1]))
    same(fx.diff(fx.tensor(x > 50)), np.diff(x > 50))


GRADIENTS = {
    "sort": lambda x: x.sort(0).values,
    "sort descending": lambda x: x.sort(1, descending=True).values,
    "topk": lambda x: x.topk(2, 1).values,
    "kthvalue": lambda x: x.kthvalue(2, 0).values,
    "median": lambda x: x.median(1).values,
    "median of all": lambda x: x.median(),
    "cumsum": lambda x: x.cumsum(0),
    "cumprod": lambda x: x.cumprod(1),
    "cummax": lambda x: x.cummax(0).values,
    "cummin": lambda x: x.cummin(1).values,
    "diff": lambda x: x.diff(2, 1),
    "unique": lambda x: x.unique(),
}


@pytest.mark.parametrize("function", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_gradients(rng, function):
    check_gradient(function, rng.standard_normal((4, 5)))


def test_gradient_of_cumprod_with_zeros():
    x = np.array([[2.0, 0.0, 3.0, 4.0], [0.0, 1.5, 0.0, 2.0], [1.0, 2.0, 3.0, 0.0]])
    check_gradient(lambda x: x.cumprod(1), x)

    def gradient(x):
        y = x if x.requires_grad else x.clone().requires_grad_()
        return fx.autograd.grad((y.cumprod(0) ** 2).sum(), y, create_graph=True)[0]

    check_gradient(gradient, x[:, :2])


ERRORS = [
    (lambda x: x.topk(6), RuntimeError, "topk: k 6 is out of range for dim 1 of size 4"),
    (lambda x: x.kthvalue(0, 0), RuntimeError,
     "kthvalue: k 0 is out of range for dim 0 of size 3; expected 1 to 3"),
    (lambda x: x.sort(2), IndexError,
     "sort: dim 2 is out of range for a tensor of rank 2; expected -2 to 1"),
    (lambda x: fx.zeros(3, 0).median(1), IndexError, "median: dim 1 of shape (3, 0) has no elements"),
    (lambda x: fx.searchsorted(x, fx.zeros(2, 3)), RuntimeError,
     "searchsorted: the sorted sequence of shape (3, 4) must be 1-dim, or agree with the values of shape (2, 3) in "
     "all dims but the last"),
    (lambda x: fx.searchsorted(x[0], x, side="middle"), RuntimeError,
     "searchsorted: side must be 'left' or 'right', got 'middle'"),
    (lambda x: x.cumsum(2), IndexError,
     "cumsum: dim 2 is out of range for a tensor of rank 2; expected -2 to 1"),
    (lambda x: fx.diff(fx.tensor(1.0)), RuntimeError, "diff: needs at least one dim, got a 0-dim tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[e[2][:40] for e in ERRORS])
def test_errors_teach(call, error, text):
    with pytest.raises(error) as raised:
        call(fx.zeros(3, 4))
    assert str(raised.value) == text
