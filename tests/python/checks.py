"""What several tests compare with: dtypes and their NumPy twins, bits, units in the last place, finite differences."""

import hashlib

import numpy as np

import fluxion as fx

FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]
DTYPES = ["bool", *INTEGERS, *FLOATS]
SIGNIFICANT_BITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
LEAST_EXPONENT = {"float16": -14, "bfloat16": -126, "float32": -126, "float64": -1022}


def name_of(dtype):
    """ "float32" for fx.float32."""
    return str(dtype).rpartition(".")[2]


def tensor(values, dtype):
    """A tensor of the named dtype; bfloat16, which NumPy lacks, by way of float32."""
    values = np.asarray(values)
    if dtype == "bfloat16":
        return fx.tensor(values.astype(np.float32)).to(fx.bfloat16)
    return fx.tensor(values.astype(dtype))


def exact(t):
    """The values as a NumPy array that holds each of them exactly."""
    t = t.detach()
    return (t.to(fx.float64) if t.is_floating_point() else t).numpy()


def bits(t):
    """The bytes of the elements in logical order."""
    t = t.detach()
    return (t.view(fx.int16) if t.dtype == fx.bfloat16 else t).numpy().tobytes()


def digest(*tensors):
    """One short hash of dtypes, shapes and bits."""
    h = hashlib.sha256()
    for t in tensors:
        h.update(f"{name_of(t.dtype)}{tuple(t.shape)}".encode() + bits(t))
    return h.hexdigest()[:16]


def assert_same(got, want):
    """Same dtype, shape and bits; NaNs of any payload are equal."""
    assert (got.dtype, tuple(got.shape)) == (want.dtype, tuple(want.shape))
    a, b = exact(got), exact(want)
    np.testing.assert_array_equal(a, b)
    if got.is_floating_point():
        number = ~np.isnan(a)
        np.testing.assert_array_equal(np.signbit(a)[number], np.signbit(b)[number])


def ulps(got, want, dtype):
    """How many units in the last place of the named dtype `got` is off; 0 where both are the same NaN or infinity."""
    got, want = np.asarray(got, np.longdouble), np.asarray(want, np.longdouble)
    bits, least = SIGNIFICANT_BITS[dtype], LEAST_EXPONENT[dtype]
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(np.abs(want))[1] - 1, least)
        unit = np.ldexp(np.longdouble(1), exponent - (bits - 1))
        largest = np.ldexp(
            np.longdouble(2), 1 - least
        )  # 2 ** (greatest exponent + 1) rounds to infinity
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        same |= np.isinf(got) & (
            np.abs(want) >= largest * (1 - np.ldexp(np.longdouble(1), -bits - 1))
        )
        same &= np.isnan(want) | (np.sign(got) == np.sign(want)) | (want == 0)
        return np.where(same, 0, np.abs(got - want) / unit).astype(float)


def assert_ulps(got, want, limit):
    """`got`, a tensor, lies within `limit` units in the last place of the exact values `want`."""
    assert tuple(got.shape) == np.shape(want)
    error = np.nan_to_num(ulps(exact(got), want, name_of(got.dtype)), nan=np.inf).ravel()
    worst = np.argmax(error) if error.size else 0
    assert not error.size or error[worst] <= limit, (
        f"{error[worst]} ulp at element {worst}: got {exact(got).ravel()[worst]!r}, want {np.ravel(want)[worst]!r}"
    )


def numeric_gradient(f, x, step=1e-6):
    """Central differences of f, a function of a float64 tensor with a one-element result, as a NumPy array."""
    values = x.detach().clone()
    flat = values.view(-1)
    slope = np.zeros(flat.numel())
    with fx.no_grad():
        for i in range(flat.numel()):
            at = flat[i].item()
            h = step * max(1, abs(at))
            flat[i] = at + h
            up = f(values.clone()).item()
            flat[i] = at - h
            down = f(values.clone()).item()
            flat[i] = at
            slope[i] = (up - down) / (2 * h)
    return slope.reshape(tuple(x.shape))


def weighted(t):
    """The sum of t's elements, weighted so that none cancels."""
    return (
        t * fx.linspace(0.5, 1.5, max(t.numel(), 1), dtype=t.dtype)[: t.numel()].view(t.shape)
    ).sum()


def assert_gradient(f, x, order=1, tolerance=1e-6):
    """The gradients of f at x up to `order` agree with finite differences of the order below."""

    def derivative(n, at):
        y = weighted(f(at))
        for _ in range(n):
            (g,) = (
                fx.autograd.grad(y, at, create_graph=True)
                if y.requires_grad
                else (fx.zeros_like(at),)
            )
            y = weighted(g)
        return y

    for n in range(order):

        def below(at, n=n):
            with fx.enable_grad():
                return derivative(n, at.requires_grad_())

        leaf = x.detach().clone().requires_grad_()
        y = derivative(n, leaf)
        got = fx.autograd.grad(y, leaf)[0] if y.requires_grad else fx.zeros_like(leaf)
        want = numeric_gradient(below, x, 1e-5)
        np.testing.assert_allclose(exact(got), want, rtol=tolerance * 10**n, atol=tolerance * 10**n)
