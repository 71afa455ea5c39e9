"""Inverse hyperbolic functions, atan2, erfinv, logarithms of sums of exponentials, mode: against NumPy and PyTorch."""

import itertools
import math

import numpy as np
import pytest

import fluxion as fx

SPECIALS = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e-40, 3e38, math.inf, -math.inf, math.nan]


def test_atan2_of_special_values():
    pairs = np.array(list(itertools.product(SPECIALS, SPECIALS)), "float64")
    y, x = pairs.T.copy()
    got, want = fx.atan2(fx.tensor(y), fx.tensor(x)).numpy(), np.arctan2(y, x)
    np.testing.assert_allclose(got, want, rtol=1e-15)
    assert (np.signbit(got) == np.signbit(want))[~np.isnan(want)].all()


@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2"])
def test_logaddexp_of_special_values(name):
    pairs = np.array(list(itertools.product(SPECIALS, SPECIALS)), "float64")
    a, b = pairs.T.copy()
    got = getattr(fx, name)(fx.tensor(a), fx.tensor(b)).numpy()
    np.testing.assert_allclose(got, getattr(np, name)(a, b), rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erfinv_inverts_erf(rng, dtype):
    y = rng.uniform(-3, 3, 2000).astype(dtype)
    x = np.array([math.erf(v) for v in y.astype(float)])
    keep = np.abs(x) < 0.999
    got = fx.erfinv(fx.tensor(x[keep])).numpy()
    # Rounding x to double moves the inverse by half an ulp of x over the slope there.
    slope = 2 / math.sqrt(math.pi) * np.exp(-(y[keep].astype(float) ** 2))
    assert (np.abs(got - y[keep]) <= 1e-15 * np.abs(y[keep]) + 1.2e-16 / slope).all()


def test_erfinv_at_the_ends():
    assert fx.erfinv(fx.tensor([1.0, -1.0, 0.0])).tolist() == [math.inf, -math.inf, 0.0]
    assert fx.erfinv(fx.tensor([1.1, -2.0, math.nan])).isnan().all()
    assert fx.erfinv(fx.tensor(1 - 2.0**-24)).item() == pytest.approx(3.8325066, rel=1e-5)


def test_hyperbolic_inverses_at_the_ends():
    assert fx.atanh(fx.tensor([1.0, -1.0])).tolist() == [math.inf, -math.inf]
    assert fx.acosh(fx.tensor([1.0, math.inf])).tolist() == [0.0, math.inf]
    assert fx.asinh(fx.tensor([math.inf, -math.inf])).tolist() == [math.inf, -math.inf]
    assert fx.acosh(fx.tensor(0.5)).isnan() and fx.atanh(fx.tensor(2.0)).isnan()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_logcumsumexp_equals_numpy(rng, dtype, dim, threads):
    x = (rng.normal(size=(7, 60, 5)) * 30).astype(dtype)
    want = np.logaddexp.accumulate(x.astype("float64"), dim)
    got = fx.logcumsumexp(fx.tensor(x), dim).numpy()
    assert got.dtype == x.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_logcumsumexp_of_minus_infinity_has_a_gradient():
    x = fx.tensor([-math.inf, -math.inf, 1.0, 2.0], requires_grad=True)
    fx.logcumsumexp(x, 0)[2:].sum().backward()
    share = 1 / (1 + math.e)
    np.testing.assert_allclose(x.grad.numpy(), [0, 0, 1 + share, 1 - share], rtol=1e-6)
    with pytest.raises(RuntimeError, match="logcumsumexp: needs a floating dtype, got int64"):
        fx.logcumsumexp(fx.tensor([1, 2]), 0)


@pytest.mark.parametrize("dtype", [fx.int64, fx.float32, fx.uint8, fx.bfloat16])
def test_mode_is_the_least_of_the_most_frequent(dtype):
    x = fx.tensor([[3, 1, 3, 1, 2], [5, 4, 3, 2, 1], [2, 2, 2, 0, 0]]).to(dtype)
    values, indices = fx.mode(x)
    assert values.tolist() == [1, 1, 2]
    assert indices.tolist() == [3, 4, 2]
    kept = x.mode(1, keepdim=True)
    assert kept.values.shape == (3, 1)
    assert x.t().mode(0).values.tolist() == [1, 1, 2]


def test_mode_has_a_gradient_and_refuses_nothing():
    x = fx.tensor([2.0, 1.0, 2.0], requires_grad=True)
    x.mode().values.backward()
    assert x.grad.tolist() == [0, 0, 1]
    with pytest.raises(IndexError, match=r"mode: dim 1 of shape \(2, 0\) has no elements"):
        fx.mode(fx.ones(2, 0))


def test_var_and_std_take_pytorchs_older_arguments(rng):
    x = rng.normal(size=(4, 6)).astype("float32")
    t = fx.tensor(x)
    for ours, numpys in ((fx.var, np.var), (fx.std, np.std)):
        np.testing.assert_allclose(ours(t, 1, False).numpy(), numpys(x, 1), rtol=1e-5)
        np.testing.assert_allclose(ours(t, 1, True).numpy(), numpys(x, 1, ddof=1), rtol=1e-5)
        assert ours(t, [0], True, True).shape == (1, 6)
        assert ours(t, 0, unbiased=False, keepdim=True).shape == (1, 6)
    np.testing.assert_allclose(t.std(0, False).numpy(), np.std(x, 0), rtol=1e-5)


UNARY = {"asinh": (-50, 50), "acosh": (1, 50), "atanh": (-0.99, 0.99), "erfinv": (-0.99, 0.99)}


@pytest.mark.torch
@pytest.mark.parametrize("name", UNARY)
def test_unary_values_and_gradients_equal_pytorch(torch, rng, name):
    x = rng.uniform(*UNARY[name], 500)
    ours, theirs = fx.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    a, b = getattr(fx, name)(ours), getattr(torch, name)(theirs)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
    a.sum().backward(), b.sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-11)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["atan2", "logaddexp", "logaddexp2"])
def test_binary_values_and_gradients_equal_pytorch(torch, rng, name):
    x, y = rng.normal(size=(2, 300)) * 5
    ours = [fx.tensor(v, requires_grad=True) for v in (x, y)]
    theirs = [torch.tensor(v, requires_grad=True) for v in (x, y)]
    a, b = getattr(fx, name)(*ours), getattr(torch, name)(*theirs)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
    a.sum().backward(), b.sum().backward()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.torch
def test_logcumsumexp_and_mode_equal_pytorch(torch, rng):
    x = rng.normal(size=(5, 40)) * 10
    ours, theirs = fx.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    weight = rng.normal(size=x.shape)
    (ours.logcumsumexp(1) * fx.tensor(weight)).sum().backward()
    (theirs.logcumsumexp(1) * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-8, atol=1e-10)
    whole = rng.integers(0, 6, (30, 17))
    got, want = fx.tensor(whole).mode(0), torch.tensor(whole).mode(0)
    assert got.values.tolist() == want.values.tolist()


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("number", [0.1, 3.3, 0.7, 2, 0.5, 4099])
def test_halves_meet_numbers_as_in_pytorch(torch, rng, dtype, number):
    """mul and div take the number in float32; the others round it to half first."""
    x = rng.normal(size=3000) * 3
    calls = {
        "mul": lambda m, t: t * number,
        "rmul": lambda m, t: number * t,
        "div": lambda m, t: t / number,
        "trunc": lambda m, t: m.div(t, number, rounding_mode="trunc"),
        "mul of a strided tensor": lambda m, t: t[::2] * number,
        "mul of a 0-dim tensor": lambda m, t: t * m.tensor(float(number)),
        "add": lambda m, t: t + number,
        "sub": lambda m, t: t - number,
        "rsub": lambda m, t: number - t,
        "lt": lambda m, t: t < number,
        "fmod": lambda m, t: m.fmod(t, number),
    }
    for name, call in calls.items():
        got = call(fx, fx.tensor(x, dtype=getattr(fx, dtype))).float()
        want = call(torch, torch.tensor(x, dtype=getattr(torch, dtype))).float()
        assert got.tolist() == want.tolist(), name
