"""Elementwise ops against NumPy: values for every dtype, special values, broadcasting, strides, out= and in-place forms."""

import math
import operator

import numpy as np
import pytest

import fluxion as fx
from checks import DTYPES, FLOATS, INTEGERS, assert_same, assert_ulps, bits, exact, tensor

L = np.longdouble


def by_element(f):
    """A Python function of one float over an array."""
    return lambda x: np.vectorize(f, otypes=[float])(np.asarray(x, float)).astype(L)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# name: (reference on long doubles, lowest and highest argument, units in the last place for float32 and float64)
FLOAT_UNARY = {
    "sqrt": (np.sqrt, 0, 100, 0.501),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1e-3, 100, 1.5),
    "exp": (np.exp, -80, 80, 1),
    "exp2": (np.exp2, -120, 120, 1),
    "expm1": (np.expm1, -20, 80, 1),
    "log": (np.log, 1e-6, 1e6, 1),
    "log2": (np.log2, 1e-6, 1e6, 1),
    "log10": (np.log10, 1e-6, 1e6, 1),
    "log1p": (np.log1p, -0.99, 1e4, 1),
    "sin": (np.sin, -100, 100, 1),
    "cos": (np.cos, -100, 100, 1),
    "tan": (np.tan, -100, 100, 2),
    "asin": (np.arcsin, -1, 1, 2),
    "acos": (np.arccos, -1, 1, 2),
    "atan": (np.arctan, -1e3, 1e3, 2),
    "asinh": (np.arcsinh, -1e4, 1e4, 3),
    "acosh": (np.arccosh, 1, 1e4, 3),
    "atanh": (np.arctanh, -1, 1, 3),
    "sinh": (np.sinh, -50, 50, 2),
    "cosh": (np.cosh, -50, 50, 2),
    "tanh": (np.tanh, -20, 20, 1),
    "erf": (
        by_element(math.erf),
        -5,
        5,
        1.5,
    ),  # the reference is off by half a unit itself in float64
    "erfc": (by_element(math.erfc), -4, 9, 5),
    "sigmoid": (sigmoid, -50, 50, 2.5),
    "reciprocal": (lambda x: 1 / x, 0.1, 100, 0.501),
}
EXACT_UNARY = {
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "trunc": np.trunc,
    "square": np.square,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "signbit": np.signbit,
    "logical_not": np.logical_not,
    "bitwise_not": np.invert,
}
SPECIALS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    1e-45,
    -1e-45,
    1e-40,
    3.4e38,
    math.inf,
    -math.inf,
    math.nan,
]


def sample(dtype, low=-20, high=20, n=37):
    """Values of that dtype within [low, high], the ends among them."""
    if dtype == "bool":
        return np.arange(n) % 3 == 0
    if dtype in INTEGERS:
        low = max(low, np.iinfo(dtype).min)
        return np.unique(np.linspace(low, high, n).astype(dtype))
    x = np.linspace(low, high, n)
    return np.clip(exact(tensor(x, dtype)), low, high)


def promoted(dtype):
    """The dtype in which a float function of that dtype computes."""
    return dtype if dtype in FLOATS else "float32"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FLOAT_UNARY)
def test_float_function(name, dtype):
    reference, low, high, limit = FLOAT_UNARY[name]
    if dtype == "float16":
        low, high = max(low, -10), min(high, 10)
    x = tensor(sample(dtype, low, high, n=501), dtype)
    with np.errstate(all="ignore"):
        want = reference(exact(x).astype(L))
    got = getattr(fx, name)(x)
    assert got.dtype == getattr(fx, promoted(dtype))
    halves = 0.51 + limit * 2.0**-13  # rounded once from the float32 result
    assert_ulps(got, want, halves if dtype in ("float16", "bfloat16") else limit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FLOAT_UNARY)
def test_float_function_of_special_values(name, dtype):
    x = tensor(np.array(SPECIALS, dtype), dtype)
    with np.errstate(all="ignore"):
        want = FLOAT_UNARY[name][0](exact(x).astype(L))
    got = getattr(fx, name)(x)
    assert_ulps(got, want, FLOAT_UNARY[name][3])
    zero = exact(got) == 0
    np.testing.assert_array_equal(np.signbit(exact(got))[zero], np.signbit(want)[zero])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT_UNARY)
def test_exact_function(name, dtype):
    if dtype == "bool" and name not in ("logical_not", "bitwise_not"):
        pytest.skip("not defined for bool")
    if dtype in FLOATS and name == "bitwise_not":
        pytest.skip("not defined for floats")
    values = sample(dtype)
    with np.errstate(all="ignore"):
        if dtype in FLOATS:
            values = np.concatenate(
                [values, np.array(SPECIALS, dtype if dtype != "bfloat16" else "float32")]
            )
        x = tensor(values, dtype)
        want = EXACT_UNARY[name](exact(x))
        want = fx.from_numpy(want) if want.dtype == bool else tensor(want, dtype)
    assert_same(getattr(fx, name)(x), want)


def test_round_decimals():
    x = fx.tensor([1.25, -1.35, 123.456, 0.5], dtype=fx.float64)
    np.testing.assert_allclose(fx.round(x, decimals=1).numpy(), [1.2, -1.4, 123.5, 0.5])
    np.testing.assert_allclose(fx.round(x, decimals=-2).numpy(), [0, 0, 100, 0])
    np.testing.assert_array_equal(x.frac().numpy(), x.numpy() - np.trunc(x.numpy()))


ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "floor_divide": np.floor_divide,
    "remainder": np.remainder,
    "fmod": np.fmod,
}
COMPARISON = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
LOGICAL = {
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
BITWISE = {
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}
SHIFT = {"bitwise_left_shift": np.left_shift, "bitwise_right_shift": np.right_shift}
BINARY = {**ARITHMETIC, **COMPARISON, **LOGICAL, **BITWISE, **SHIFT}


def operands(name, dtype, rng):
    """Two (5, 7) arrays; divisors are not zero, shift counts in range."""
    draw = (
        (lambda: rng.integers(0, 2, (5, 7)).astype(bool))
        if dtype == "bool"
        else (lambda: rng.integers(-9, 10, (5, 7)))
    )
    a, b = draw(), draw()
    if dtype in FLOATS:
        a, b = a + 0.25, b * 0.5
    if name in ("floor_divide", "remainder", "fmod"):
        b = np.where(b == 0, 3, b)
    if name in SHIFT:
        b = np.abs(b) % 7
    if dtype == "uint8":
        a, b = np.abs(a) + 10, np.abs(b)
    return (a.astype(dtype), b.astype(dtype)) if dtype != "bfloat16" else (a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, dtype, rng):
    if dtype == "bool" and name in ("sub", "floor_divide", "remainder", "fmod", *SHIFT):
        pytest.skip("not defined for bool")
    if dtype in FLOATS and name in {**BITWISE, **SHIFT}:
        pytest.skip("not defined for floats")
    a, b = operands(name, dtype, rng)
    with np.errstate(all="ignore"):
        want = BINARY[name](a, b)
    want = fx.from_numpy(want) if want.dtype == bool else tensor(want, dtype)
    assert_same(getattr(fx, name)(tensor(a, dtype), tensor(b, dtype)), want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ARITHMETIC, *COMPARISON, "div", "pow"])
def test_binary_of_special_values(name, dtype):
    """Every pair of special values. Divisions by zero and remainders of infinities follow C and PyTorch."""
    reference = {**ARITHMETIC, **COMPARISON, "div": np.divide, "pow": np.power}[name]
    a, b = np.meshgrid(np.array(SPECIALS, dtype), np.array(SPECIALS, dtype))
    if name in ("floor_divide", "remainder"):
        finite = (b != 0) & np.isfinite(a) & np.isfinite(b)
        a, b = a[finite], b[finite]
    with np.errstate(all="ignore"):
        want = fx.from_numpy(np.ascontiguousarray(reference(a, b)))
    got = getattr(fx, name)(tensor(a, dtype), tensor(b, dtype))
    if name in ("maximum", "minimum", "remainder"):  # the sign of a zero is not specified
        np.testing.assert_array_equal(exact(got), exact(want))
    elif name == "pow":
        assert_ulps(got, exact(want), 2)
    else:
        assert_same(got, want)


@pytest.mark.parametrize("dtype", FLOATS)
def test_division_and_power(dtype, rng):
    a, b = tensor(rng.uniform(0.1, 3, 999), dtype), tensor(rng.uniform(-3, 3, 999), dtype)
    once = dtype in ("float16", "bfloat16")
    assert_ulps(a / b, exact(a).astype(L) / exact(b), 0.501)
    assert_ulps(a**b, exact(a).astype(L) ** exact(b), 0.51 if once else 2)
    assert_ulps(a * b, exact(a).astype(L) * exact(b), 0.501)
    assert_ulps(a - b, exact(a).astype(L) - exact(b), 0.501)


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -0.5, -1, -2, 0, 1, 2.5, -3])
def test_power_of_numbers(exponent, rng):
    x = rng.uniform(0.1, 3, 100)
    assert_ulps(fx.from_numpy(x) ** exponent, x.astype(L) ** exponent, 2)


def test_integer_power():
    x = fx.tensor([-3, 0, 2, 7])
    assert (x**3).tolist() == [-27, 0, 8, 343]
    assert (x**0).tolist() == [1, 1, 1, 1]
    assert (x**2.0).tolist() == [9.0, 0.0, 4.0, 49.0] and (x**2.0).is_floating_point()
    assert (2 ** fx.tensor([0, 1, 10, 62])).tolist() == [1, 2, 1024, 2**62]
    assert (fx.tensor([3], dtype=fx.uint8) ** 6).item() == 3**6 % 256
    with pytest.raises(RuntimeError, match="negative integer power"):
        x ** fx.tensor(-1)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap(dtype):
    limits = np.iinfo(dtype)
    low, high = tensor([limits.min], dtype), tensor([limits.max], dtype)
    assert (high + 1).item() == limits.min and (low - 1).item() == limits.max
    assert (-low).item() == limits.min and low.abs().item() == limits.min
    with np.errstate(over="ignore"):
        assert (high * high).item() == (
            np.array([limits.max], dtype) * np.array([limits.max], dtype)
        ).item()
    minus_one = tensor([-1], dtype) if limits.min else tensor([1], dtype)
    assert (low // minus_one).item() == limits.min, "the one quotient that overflows must not trap"
    assert (low % minus_one).item() == fx.fmod(low, minus_one).item() == 0


def test_shifts_out_of_range():
    """Every bit is shifted out, whatever the hardware would do."""
    for dtype in INTEGERS:
        x = tensor([1, 5, 100] if dtype == "uint8" else [1, -5, 100], dtype)
        for count in (64, 63 if dtype != "int64" else 64, 100):
            assert not (x << count).any(), (dtype, count)
            assert_same(x >> count, -(x < 0).to(x.dtype))
    assert (fx.tensor([1, -5]) << -1).tolist() == [0, 0] and (
        fx.tensor([1, -5]) >> -1
    ).tolist() == [0, -1]


@pytest.mark.parametrize("mode, quotients", [("floor", [-3, 2, 2, -3]), ("trunc", [-2, 2, 2, -2])])
def test_rounding_mode(mode, quotients):
    a, b = fx.tensor([-5, 5, -5, 5]), fx.tensor([2, 2, -2, -2])
    assert fx.div(a, b, rounding_mode=mode).tolist() == quotients
    assert fx.div(a.double(), b, rounding_mode=mode).tolist() == quotients
    assert (a.float() / b).tolist() == [-2.5, 2.5, 2.5, -2.5]


def test_alpha_and_fused_arithmetic():
    a, b, c = fx.tensor([1.0, 2.0]), fx.tensor([3.0, 5.0]), fx.tensor([2.0, 4.0])
    assert fx.add(a, b, alpha=2).tolist() == [7, 12]
    assert fx.sub(a, b, alpha=2).tolist() == [-5, -8]
    assert fx.rsub(a, b).tolist() == [2, 3]
    assert fx.addcmul(a, b, c, value=0.5).tolist() == [4, 12]
    assert fx.addcdiv(a, b, c, value=2).tolist() == [4, 4.5]
    assert fx.lerp(a, b, 0.5).tolist() == [2, 3.5]
    assert a.lerp(b, fx.tensor([0.0, 1.0])).tolist() == [1, 5]


def test_where_and_clamp():
    x = fx.tensor([-2.0, 0.5, math.nan, 3.0])
    assert_same(fx.where(x > 0, x, 0.0), fx.tensor([0, 0.5, 0, 3]))
    assert_same(x.clamp(-1, 1), fx.tensor([-1, 0.5, math.nan, 1]))
    assert_same(x.clamp(min=0), fx.tensor([0, 0.5, math.nan, 3]))
    assert_same(fx.clamp(x, max=fx.tensor(0.0)), fx.tensor([-2, 0, math.nan, 0]))
    assert_same(x.clamp(2, 1), fx.tensor([1, 1, math.nan, 1]))
    assert fx.tensor([1, 5]).clamp(2, 3).tolist() == [2, 3]
    wild = fx.tensor([math.nan, math.inf, -math.inf, 1.0])
    largest = fx.finfo(fx.float32).max
    assert_same(wild.nan_to_num(), fx.tensor([0, largest, -largest, 1]))
    assert_same(fx.nan_to_num(wild, 1, 2, 3), fx.tensor([1.0, 2, 3, 1]))


def test_isclose():
    a, b = (
        fx.tensor([1.0, math.nan, math.inf, 0.0]),
        fx.tensor([1 + 1e-6, math.nan, math.inf, 1e-7]),
    )
    np.testing.assert_array_equal(fx.isclose(a, b).numpy(), np.isclose(a.numpy(), b.numpy()))
    assert fx.isclose(a, b, equal_nan=True).tolist() == [True, True, True, False]
    assert fx.allclose(a[:1], b[:1]) and not fx.allclose(a, b)
    assert fx.equal(a[2:3], b[2:3]) and not fx.equal(a, a) and not fx.equal(a, a[:2])


# --- conversion


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("source", DTYPES)
def test_cast(source, to):
    values = sample(source, -100 if to != "uint8" else 0, 100, n=41)
    x = tensor(values, source)
    got = x.to(getattr(fx, to))
    assert got.dtype == getattr(fx, to)
    reference = np.float32 if to == "bfloat16" else to
    if to == "bfloat16":
        assert_ulps(got, exact(x).astype(np.longdouble), 0.5)
    else:
        np.testing.assert_array_equal(got.numpy(), exact(x).astype(reference))
    assert (x.to(getattr(fx, to)) is x) == (source == to)


def test_casts_round_to_nearest_even():
    x = fx.tensor([1 + 2.0**-24, 1 + 3 * 2.0**-24, 1e-46, 3.5e38, -3.5e38], dtype=fx.float64)
    with np.errstate(over="ignore"):
        assert_same(x.float(), fx.from_numpy(x.numpy().astype(np.float32)))
    y = fx.tensor(
        [1 + 2.0**-11, 1 + 3 * 2.0**-11, 2.0**-25, 2.0**-24, 65519, 65520, math.nan, -math.inf]
    )
    with np.errstate(over="ignore"):
        assert_same(y.half(), fx.from_numpy(y.numpy().astype(np.float16)))
    z = fx.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8, 3.4e38, 1e-40, math.inf, math.nan])
    wide = z.bfloat16().float().tolist()
    assert (
        wide[:2] == [1.0, 1.015625]
        and wide[2] == math.inf
        and wide[4] == math.inf
        and math.isnan(wide[5])
    )
    assert fx.tensor([2**53 + 1, 2**63 - 1]).double().tolist() == [2.0**53, 2.0**63]


@pytest.mark.parametrize("source", FLOATS)
def test_nan_and_out_of_range_to_integers(source):
    """Documented: NaN and what is out of range become the smallest int32 or int64; narrower integers wrap from there."""
    x = tensor([math.nan, math.inf, -math.inf], source)
    assert x.long().tolist() == [-(2**63)] * 3
    assert x.int().tolist() == [-(2**31)] * 3
    assert x.short().tolist() == x.char().tolist() == x.byte().tolist() == [0, 0, 0]
    assert x.bool().tolist() == [True] * 3
    big = fx.tensor([3e9, -3e9, 300.0, -1.9, 255.9], dtype=fx.float64)
    assert big.int().tolist() == [-(2**31), -(2**31), 300, -1, 255]
    assert big[2:].char().tolist() == [44, -1, -1]
    assert big[2:].byte().tolist() == [44, 255, 255]


# --- shapes and strides

SHAPES = [
    ((), ()),
    ((3,), ()),
    ((), (2, 3)),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((4, 1, 3), (2, 1)),
    ((1, 1, 1), (5,)),
    ((0,), (1,)),
    ((0, 3), (3,)),
    ((2, 0, 3), (1, 1, 3)),
    ((3, 1, 5, 1, 2), (1, 4, 1, 6, 1)),
]


@pytest.mark.parametrize("a, b", SHAPES)
def test_broadcasting(a, b, rng):
    x, y = rng.standard_normal(a), rng.standard_normal(b)
    assert_same(
        fx.from_numpy(np.asarray(x)) * fx.from_numpy(np.asarray(y)),
        fx.from_numpy(np.asarray(x * y)),
    )
    assert_same(
        fx.from_numpy(np.asarray(x)) < fx.from_numpy(np.asarray(y)),
        fx.from_numpy(np.asarray(x < y)),
    )
    condition = fx.from_numpy(np.asarray(x > 0))
    want = np.asarray(np.where(x > 0, y, x))
    assert_same(
        fx.where(condition, fx.from_numpy(np.asarray(y)), fx.from_numpy(np.asarray(x))),
        fx.from_numpy(want),
    )


LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "every second": lambda t: t.repeat_interleave(2, dim=2)[..., ::2],
    "expanded": lambda t: t[:, :1].expand(t.shape),
    "offset": lambda t: fx.cat([t, t])[t.shape[0] :],
    "reversed": lambda t: t.flip(1).contiguous()[:, ::-1],
    "all reversed": lambda t: t.flip(0, 1, 2).contiguous()[::-1, ::-1, ::-1],
}


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
def test_strides(left, right, rng):
    """Whatever the layouts of the operands and of the target are, the bits are the same."""
    a = fx.from_numpy(rng.standard_normal((4, 9, 35)).astype(np.float32))
    b = fx.from_numpy(rng.standard_normal((4, 9, 35)).astype(np.float32))
    x, y = LAYOUTS[left](a), LAYOUTS[right](b)
    plain_x, plain_y = x.contiguous(), y.contiguous().clone()
    want = plain_x * plain_y + plain_x.sin()
    assert bits(x * y + x.sin()) == bits(want)
    assert bits(x < y) == bits(plain_x < plain_y)
    if right != "expanded":
        target = LAYOUTS[right](fx.zeros_like(b))
        assert bits(fx.mul(x, plain_y, out=target)) == bits(plain_x * plain_y)
        written = y.mul_(x)
        assert written is y and bits(y) == bits(plain_y * plain_x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_dtypes(dtype):
    """Tiles convert and gather for dtypes without kernels of their own."""
    values = sample(dtype, -60 if dtype != "uint8" else 0, 60, n=60)
    values = np.resize(values, (3, 4, 5))
    x = tensor(values, dtype)
    y = x.permute(2, 1, 0)
    assert_same(y + y, tensor(np.transpose(values, (2, 1, 0)), dtype) + y.contiguous())
    assert (
        bits(y.clone())
        == bits(y.contiguous())
        == bits(tensor(np.transpose(values, (2, 1, 0)).copy(), dtype))
    )


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 31, 32, 33, 511, 512, 513, 4097, 70001])
def test_lengths(n):
    """Tails of vectors, tiles and threads."""
    x = fx.arange(n, dtype=fx.float32)
    np.testing.assert_array_equal((x * 2 + 1).numpy(), np.arange(n, dtype=np.float32) * 2 + 1)
    np.testing.assert_array_equal((x.int() % 7).numpy(), np.arange(n, dtype=np.int32) % 7)
    np.testing.assert_array_equal((x > 5).numpy(), np.arange(n) > 5)


def test_zero_dim_and_empty():
    assert (fx.tensor(2.0) * 3).shape == () and (fx.tensor(2.0) * 3).item() == 6
    assert fx.exp(fx.empty(0, 3)).shape == (0, 3)
    assert (fx.empty(2, 0) + fx.empty(0)).shape == (2, 0)
    assert fx.empty(0).sum().item() == 0


# --- out= and in place

UNARY_TARGETS = "neg abs sign floor ceil round trunc frac sqrt exp log1p sin tanh sigmoid reciprocal square".split()
BINARY_TARGETS = "add sub mul div floor_divide remainder fmod pow eq ne lt le gt ge logical_and logical_or logical_xor".split()


@pytest.mark.parametrize("name", UNARY_TARGETS)
def test_unary_targets(name, rng):
    x = fx.from_numpy(rng.uniform(0.1, 2, (3, 5)))
    want = getattr(fx, name)(x)
    out = fx.zeros(3, 5, dtype=fx.float64)
    pointer = out.data_ptr()
    assert getattr(fx, name)(x, out=out) is out and out.data_ptr() == pointer
    assert_same(out, want)
    y = x.clone()
    assert getattr(y, name + "_")() is y
    assert_same(y, want)
    column = fx.zeros(5, 3, dtype=fx.float64).t()
    assert_same(getattr(fx, name)(x, out=column), want)


@pytest.mark.parametrize("name", BINARY_TARGETS)
def test_binary_targets(name, rng):
    x, y = fx.from_numpy(rng.uniform(0.5, 3, (3, 5))), fx.from_numpy(rng.uniform(0.5, 3, 5))
    want = getattr(fx, name)(x, y)
    out = fx.empty(3, 5, dtype=want.dtype)
    assert getattr(fx, name)(x, y, out=out) is out
    assert_same(out, want)
    z = x.clone()
    assert getattr(z, name + "_")(y) is z
    assert_same(z, want.double())
    same = x.clone()  # the target may be an operand
    assert_same(getattr(fx, name)(same, y, out=same), want.double())
    v = fx.zeros(2, 3, 5, dtype=fx.float64)
    v[1] = x
    getattr(v[1], name + "_")(y)
    assert_same(v[1], want.double())
    assert v[0].abs().sum().item() == 0


@pytest.mark.parametrize(
    "op",
    [
        operator.iadd,
        operator.isub,
        operator.imul,
        operator.itruediv,
        operator.ifloordiv,
        operator.imod,
        operator.ipow,
    ],
)
def test_augmented_assignment(op):
    values = np.array([[1.5, 2.0], [3.25, 4.0]])
    x = fx.from_numpy(values.copy())
    kept, view = x, x[0]
    x = op(x, 2)
    assert x is kept
    np.testing.assert_allclose(x.numpy(), op(values.copy(), 2))
    np.testing.assert_array_equal(view.numpy(), x.numpy()[0])


def test_augmented_bit_operators():
    x = fx.tensor([5, 6])
    x &= 4
    x |= 3
    x ^= 1
    x <<= 2
    x >>= 1
    assert x.tolist() == [12, 12]


def test_fill_zero_copy():
    x = fx.arange(6.0).view(2, 3)
    x[:, 1].fill_(9)
    x[1].zero_()
    assert x.tolist() == [[0, 9, 2], [0, 0, 0]]
    x.copy_(fx.tensor([1, 2, 3], dtype=fx.int8))
    assert x.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert x.copy_(x) is x
    x.t().copy_(fx.arange(6).view(3, 2))
    assert x.tolist() == [[0, 2, 4], [1, 3, 5]]


# --- creation


def test_creation():
    assert fx.zeros(2, 3).tolist() == [[0, 0, 0]] * 2 and fx.zeros((2,)).shape == fx.zeros(
        [2]
    ).shape == (2,)
    assert fx.ones(2, dtype=fx.int16).dtype == fx.int16
    assert (
        fx.full((2,), 7).dtype == fx.int64
        and fx.full((2,), 7.0).dtype == fx.float32
        and fx.full((), True).item() is True
    )
    assert fx.full((2,), 300, dtype=fx.int64).tolist() == [300, 300]
    assert fx.full((1,), 2**62 + 1).item() == 2**62 + 1
    x = fx.ones(2, 2, dtype=fx.float64)
    for like in (fx.zeros_like, fx.ones_like, fx.empty_like):
        assert (
            like(x).dtype == fx.float64
            and like(x, dtype=fx.int8).dtype == fx.int8
            and like(x).shape == (2, 2)
        )
    assert fx.full_like(x, 3).tolist() == [[3, 3], [3, 3]]
    assert (
        x.new_zeros(3).dtype == fx.float64 and x.new_full((1,), 2, dtype=fx.int32).dtype == fx.int32
    )
    assert fx.zeros(2, requires_grad=True).requires_grad


@pytest.mark.parametrize(
    "args",
    [
        (5,),
        (2, 7),
        (0, 10, 3),
        (10, 0, -3),
        (0.0, 1.0, 0.1),
        (1, 2, 0.25),
        (0,),
        (3, 3),
        (-2.5, 3.5),
    ],
)
def test_arange(args):
    got, want = fx.arange(*args), np.arange(*args)
    assert got.is_floating_point() == (want.dtype.kind == "f")
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-7)
    for dtype in ("uint8", "int32", "float16", "float64"):
        if dtype != "uint8" or want.size == 0 or want.min() >= 0:
            assert_same(fx.arange(*args, dtype=getattr(fx, dtype))[:1], tensor(want[:1], dtype))
    assert fx.arange(2**53, 2**53 + 3).tolist() == [2**53, 2**53 + 1, 2**53 + 2]


@pytest.mark.parametrize(
    "start, end, steps",
    [(0, 1, 5), (-3, 3, 7), (1, 0, 4), (0, 1, 1), (2, 2, 3), (0, 1, 0), (0, 1, 1000)],
)
def test_linspace(start, end, steps):
    got = fx.linspace(start, end, steps, dtype=fx.float64)
    np.testing.assert_allclose(got.numpy(), np.linspace(start, end, steps), rtol=1e-15, atol=1e-16)
    if steps > 1:
        assert got[0].item() == start and got[-1].item() == end
