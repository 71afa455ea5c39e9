"""Reductions against NumPy: every dtype, dims, strides, empty and 0-dim tensors, NaN, long rows, out=."""

import itertools
import math

import numpy as np
import pytest

import fluxion as fx
from checks import DTYPES, FLOATS, assert_same, assert_ulps, bits, exact, tensor

SHAPE = (3, 4, 5)
DIMS = [None, *(d for n in (1, 2, 3) for d in itertools.combinations(range(3), n))]
RESULT = {"sum": "int64", "prod": "int64"}  # of integers and bools; the others keep the dtype


def data(dtype, rng, shape=SHAPE):
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    low = 0 if dtype == "uint8" else -4
    values = rng.integers(low, 5, shape)
    return values if dtype == "bfloat16" else values.astype(dtype)


def numpy_result(name, values, dim, keepdim):
    f = {"amax": np.max, "amin": np.min}.get(name) or getattr(np, name)
    return np.asarray(f(values, axis=dim, keepdims=keepdim))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", DIMS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "amax", "amin", "any", "all"])
def test_exact(name, dtype, dim, keepdim, rng):
    values = data(dtype, rng)
    want = numpy_result(name, values, dim, keepdim)
    result = dtype if dtype in FLOATS else RESULT.get(name, dtype)
    if name in ("any", "all"):
        result = "uint8" if dtype == "uint8" else "bool"  # as in PyTorch
    assert_same(getattr(fx, name)(tensor(values, dtype), dim, keepdim), tensor(want, result))


@pytest.mark.parametrize("dim", DIMS[:4], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_product(dtype, dim, rng):
    values = rng.integers(1, 3, (2, 2, 3)).astype("float32" if dtype == "bfloat16" else dtype)
    dim = dim and dim[0]
    want = np.prod(values, axis=dim, dtype="float64" if dtype in FLOATS else "int64")
    x = tensor(values, dtype)
    got = fx.prod(x) if dim is None else fx.prod(x, dim)
    assert_same(got, tensor(want, dtype if dtype in FLOATS else "int64"))


@pytest.mark.parametrize("dim", DIMS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_moments(name, dtype, dim, rng):
    x = tensor(rng.standard_normal(SHAPE) + 3, dtype)
    options = {} if name == "mean" else {"ddof": 1}
    want = getattr(np, name)(exact(x).astype(np.longdouble), axis=dim, **options)
    got = getattr(x, name)() if dim is None else getattr(x, name)(dim)
    halves = 1 if name == "std" else 0.51  # the variance is rounded, then its root
    assert_ulps(got, want, halves if dtype in ("float16", "bfloat16") else 16)


def test_correction():
    x = fx.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]])
    for correction in (0, 1, 2):
        want = exact(x).var(axis=1, ddof=correction)
        np.testing.assert_allclose(x.var(1, correction=correction).numpy(), want, rtol=1e-6)
        np.testing.assert_allclose(
            x.std(dim=1, correction=correction).numpy(), want**0.5, rtol=1e-6
        )
    np.testing.assert_allclose(x.var(unbiased=False).item(), exact(x).var(), rtol=1e-6)
    assert x.var(1, keepdim=True).shape == (2, 1)
    assert (
        x[:, :1].var(1).isnan().all()
        and x.var(1, correction=5).isinf().all()
        and fx.empty(0).var().isnan()
    )
    variance, mean = fx.var_mean(x, 1)
    deviation, same_mean = fx.std_mean(x, 1)
    assert bits(variance) == bits(x.var(1)) and bits(mean) == bits(x.mean(1)) == bits(same_mean)
    assert bits(deviation) == bits(x.std(1))


@pytest.mark.parametrize("p", [2, 1, 0, math.inf, -math.inf, 3, 0.5])
@pytest.mark.parametrize("dim", [None, 0, 1, (0, 1)], ids=str)
def test_norm(p, dim, rng):
    x = rng.standard_normal((4, 6))
    a = np.abs(x)
    if p == 0:
        want = (a != 0).sum(axis=dim)
    elif math.isinf(p):
        want = a.max(axis=dim) if p > 0 else a.min(axis=dim)
    else:
        want = (a**p).sum(axis=dim) ** (1 / p)
    got = fx.norm(fx.from_numpy(x), p, dim) if dim is not None else fx.norm(fx.from_numpy(x), p)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-13)


@pytest.mark.parametrize("dim", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_places_of_extrema(dtype, dim, rng):
    """The first of equal elements, everywhere."""
    values = data(dtype, rng)
    x = tensor(values, dtype)
    for name, extremum in (("argmax", "max"), ("argmin", "min")):
        want = fx.from_numpy(np.asarray(getattr(np, name)(values, axis=dim)))
        assert_same(getattr(fx, name)(x, dim), want)
        if dim is None:
            assert_same(getattr(fx, extremum)(x), getattr(fx, "a" + extremum)(x))
            continue
        found = getattr(fx, extremum)(x, dim, keepdim=True)
        assert_same(found.indices, want.unsqueeze(dim))
        assert_same(found.values, fx.take_along_dim(x, found.indices, dim))
        places, indices = getattr(x, extremum)(dim=dim)
        assert_same(indices, want)
        assert places.shape == indices.shape


def test_two_operand_extrema():
    a, b = fx.tensor([1.0, 5.0]), fx.tensor([3.0, 2.0])
    assert fx.max(a, b).tolist() == [3, 5] and fx.min(a, b).tolist() == [1, 2]


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_wins(dtype):
    values = np.zeros((3, 40))
    values[0, 7] = values[1, 39] = np.nan
    x = tensor(values, dtype)
    for name in ("amax", "amin", "sum", "mean", "prod"):
        assert np.isnan(exact(getattr(fx, name)(x, -1))).tolist() == [True, True, False], name
        assert np.isnan(exact(getattr(fx, name)(x, 0))).nonzero()[0].tolist() == [7, 39], name
    assert fx.argmax(x, 1).tolist() == fx.argmin(x, 1).tolist() == [7, 39, 0]
    assert math.isnan(x.max().item()) and math.isnan(x.min(1).values[1].item())
    assert x[:2].any(1).tolist() == [True, True], "NaN is not zero"


def test_special_sums():
    inf = math.inf
    x = fx.tensor([[inf, 1, 2], [inf, -inf, 0], [-inf, 3, 4], [-0.0, -0.0, -0.0]])
    got = x.sum(1).tolist()
    assert got[0] == inf and math.isnan(got[1]) and got[2] == -inf and got[3] == 0
    assert x.amax(1).tolist() == [inf, inf, 4, 0] and x.amin(1).tolist()[:3] == [1, -inf, -inf]
    tiny = fx.full((1000,), 1e-45)
    assert tiny.sum().item() == np.float32(1e-45).astype(float) * 1000
    assert fx.full((70000,), 1.0, dtype=fx.float16).sum().item() == inf, "one rounding, at the end"
    assert (
        fx.full((4096,), 0.1, dtype=fx.bfloat16).mean().item() == fx.tensor(0.1).bfloat16().item()
    )
    assert fx.full((300,), 255, dtype=fx.uint8).sum().item() == 300 * 255
    assert fx.full((3,), 2**62).sum().item() == (3 * 2**62 + 2**63) % 2**64 - 2**63


EMPTY = [
    ((0,), None, ()),
    ((0, 3), 0, (3,)),
    ((3, 0), 1, (3,)),
    ((0, 3), 1, (0,)),
    ((2, 0, 3), (0, 1), (3,)),
]


@pytest.mark.parametrize("shape, dim, result", EMPTY)
def test_empty(shape, dim, result):
    x = fx.empty(shape)
    for name, value in {"sum": 0, "mean": math.nan, "any": False, "all": True}.items():
        got = getattr(fx, name)(x) if dim is None else getattr(fx, name)(x, dim)
        np.testing.assert_array_equal(got.numpy(), np.full(result, value))
    if not isinstance(dim, tuple):
        got = fx.prod(x) if dim is None else fx.prod(x, dim)
        np.testing.assert_array_equal(got.numpy(), np.ones(result))
    for name in ("amax", "amin"):
        if 0 in result:
            assert getattr(fx, name)(x, dim).shape == result
        else:
            with pytest.raises((RuntimeError, IndexError)):
                getattr(fx, name)(x) if dim is None else getattr(fx, name)(x, dim)


def test_zero_dim():
    x = fx.tensor(3.0)
    for name in ("sum", "prod", "mean", "amax", "amin"):
        assert (
            getattr(x, name)().item() == 3
            and getattr(x, name)(0).shape == ()
            and getattr(x, name)(-1).item() == 3
        )
    assert x.argmax().item() == 0 and x.max(0).indices.item() == 0
    assert math.isnan(x.var().item()) and x.var(correction=0).item() == 0
    with pytest.raises(IndexError):
        x.sum(1)


def test_dims():
    x = fx.arange(24.0).view(2, 3, 4)
    assert_same(x.sum(-1), x.sum(2))
    assert_same(x.sum((-1, 0)), x.sum((0, 2)))
    assert_same(x.sum([]), x.sum())
    assert_same(x.sum(axis=1, keepdims=True), x.sum(dim=1, keepdim=True))
    assert x.sum(dtype=fx.float64).dtype == fx.float64
    assert fx.ones(3, dtype=fx.int8).sum(dtype=fx.int8).dtype == fx.int8
    assert fx.ones(3, dtype=fx.int32).mean(dtype=fx.float32).item() == 1
    for bad in ((0, 0), (1, -2)):
        with pytest.raises(RuntimeError, match="appears"):
            x.sum(bad)
    for bad in (3, -4, (0, 5)):
        with pytest.raises(IndexError):
            x.sum(bad)


LAYOUTS = {
    "permuted": lambda t: t.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "swapped": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "every second": lambda t: t.repeat_interleave(2, dim=2)[..., ::2],
    "reversed": lambda t: t.flip(0, 2).contiguous()[::-1, :, ::-1],
}


@pytest.mark.parametrize("dim", DIMS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_order_is_logical(layout, dim, rng):
    """The order of additions follows indices, not memory: the bits do not depend on strides."""
    x = fx.from_numpy(rng.standard_normal((7, 33, 130)).astype(np.float32))
    y = LAYOUTS[layout](x)
    assert y.stride() != x.stride()
    for name in ("sum", "mean", "var", "amax"):
        f = getattr(fx, name)
        assert bits(f(x) if dim is None else f(x, dim)) == bits(
            f(y) if dim is None else f(y, dim)
        ), name
    if dim is not None and len(dim) == 1:
        assert_same(x.argmin(dim[0]), y.argmin(dim[0]))


def test_expanded(rng):
    x = fx.from_numpy(rng.standard_normal((1, 5)).astype(np.float32)).expand(64, 5)
    assert_same(x.sum(0), x.contiguous().sum(0))
    assert_same(x.sum(1), x.contiguous().sum(1))
    assert_same(x.sum(), x.contiguous().sum())


@pytest.mark.parametrize(
    "n", [1, 31, 32, 33, 127, 128, 129, 4095, 4096, 4097, 65535, 65536, 65537, 300001]
)
def test_lengths(n, rng, threads):
    """Lanes, chunks and threads leave no element out, and the sum is accurate."""
    x = rng.standard_normal(n).astype(np.float32)
    t = fx.from_numpy(x)
    bound = 1e-6 * (1 + math.log2(n)) * np.abs(x).sum(dtype=float)
    assert abs(t.sum().item() - x.sum(dtype=float)) <= bound
    assert fx.ones(n, dtype=fx.int32).sum().item() == n
    column = fx.from_numpy(np.repeat(x[:, None], 3, 1).copy())
    assert abs(column.sum(0)[1].item() - x.sum(dtype=float)) <= bound * 4
    assert t.argmax().item() == x.argmax() and t.amin().item() == x.min()
    assert fx.ones(n, 2, dtype=fx.float32).sum(0).tolist() == [n, n]


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "amax", "amin", "any", "all"])
def test_out(name, rng):
    x = fx.from_numpy(rng.standard_normal((3, 4)))
    want = getattr(fx, name)(x, 1)
    out = fx.zeros(3, dtype=want.dtype)
    assert getattr(fx, name)(x, 1, out=out) is out
    assert_same(out, want)
    every_second = fx.zeros(6, dtype=want.dtype)
    getattr(fx, name)(x, 1, out=every_second[::2])
    assert_same(every_second[::2], want)
    assert not every_second[1::2].any()


def test_sum_to_size():
    x = fx.arange(24.0).view(2, 3, 4)
    assert_same(x.sum_to_size(3, 1), x.sum((0, 2)).view(3, 1))
    assert_same(x.sum_to_size(2, 3, 4), x)
    with pytest.raises(RuntimeError):
        x.sum_to_size(2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cumulative(dtype, dim, rng):
    values = data(dtype, rng)
    x = tensor(values, dtype)
    assert_same(fx.cumsum(x, dim), tensor(np.cumsum(values, axis=dim), dtype))
    assert_same(fx.cumprod(x, dim), tensor(np.cumprod(values, axis=dim), dtype))


def test_count_nonzero_and_quantiles(rng):
    values = rng.integers(-1, 2, (4, 5))
    x = fx.from_numpy(values)
    assert fx.count_nonzero(x).item() == np.count_nonzero(values)
    assert fx.count_nonzero(x, dim=0).tolist() == np.count_nonzero(values, axis=0).tolist()
