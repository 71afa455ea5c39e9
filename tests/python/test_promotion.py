"""Result dtypes against PyTorch's, recorded by tests/tools/record_result_types.py."""

import json
from pathlib import Path

import pytest

import fluxion as fx

DATA = json.loads((Path(__file__).parent / "data/promotion.json").read_text())
OPERANDS = DATA["operands"]
DTYPES = {
    "bool": fx.bool,
    "u8": fx.uint8,
    "i8": fx.int8,
    "i16": fx.int16,
    "i32": fx.int32,
    "i64": fx.int64,
    "f16": fx.float16,
    "bf16": fx.bfloat16,
    "f32": fx.float32,
    "f64": fx.float64,
}
SHORT = {dtype: short for short, dtype in DTYPES.items()}
NUMBERS = {"bool_number": True, "int_number": 1, "float_number": 1.0}
TABLES = DATA["float32"]
BINARY = [n for n, t in TABLES.items() if "f32()" in t]
INPLACE = [n for n in TABLES if n.endswith("_")]
ONE_OPERAND = [n for n, t in TABLES.items() if " " not in t["f32"]]


def operand(kind):
    if kind in NUMBERS:
        return NUMBERS[kind]
    return fx.ones(() if kind.endswith("()") else (2,), dtype=DTYPES[kind.removesuffix("()")])


def result(f, *operands):
    try:
        r = f(*operands)
    except (RuntimeError, TypeError, NotImplementedError):
        return "raises"
    return SHORT[r if isinstance(r, fx.dtype) else r.dtype]


def function(name):
    if name == "where":
        return lambda a, b: fx.where(fx.tensor([True, False]), a, b)
    if name == "cumsum":
        return lambda x: x.cumsum(0)
    return getattr(fx, name, None) or getattr(fx.Tensor, name)


def differences(f, table, rights, strict=False):
    """(left, right, got, wanted) wherever we differ; where PyTorch raises we may give a result, unless `strict`."""
    found = []
    for left, row in table.items():
        for right, want in zip(rights, row.split(), strict=True):
            got = result(f, operand(left), operand(right))
            if got != want and (strict or want != "raises"):
                found.append((left, right, got, want))
    return found


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    assert not differences(function(name), TABLES[name], OPERANDS)


@pytest.mark.parametrize("name", INPLACE)
def test_inplace_keeps_the_dtype_or_refuses(name):
    rights = (
        OPERANDS if name != "pow_" else OPERANDS[:-3]
    )  # bool ** int is bool in PyTorch, int64 out of place
    table = {k: " ".join(row.split()[: len(rights)]) for k, row in TABLES[name].items()}
    must_raise = name not in (
        "sub_",
        "pow_",
        "logical_and_",
        "floor_divide_",
        "bitwise_and_",
    )  # where PyTorch has no kernel
    assert not differences(getattr(fx.Tensor, name), table, rights, strict=must_raise)


@pytest.mark.parametrize("name", ONE_OPERAND)
def test_one_operand(name):
    f = function(name)
    got = {d: result(f, operand(d)) for d in DTYPES}
    assert {d: got[d] for d, want in TABLES[name].items() if want != "raises"} == {
        d: want for d, want in TABLES[name].items() if want != "raises"
    }


@pytest.mark.parametrize("name", DATA["float64"])
def test_default_dtype_float64(name):
    fx.set_default_dtype(fx.float64)
    table = DATA["float64"][name]
    if " " in table["f32"]:
        assert not differences(function(name), table, OPERANDS)
    else:
        assert {d: result(function(name), operand(d)) for d in DTYPES} == table


@pytest.mark.parametrize("name", ["promote_types", "can_cast"])
def test_pairs_of_dtypes(name):
    for left, row in TABLES[name].items():
        got = [getattr(fx, name)(DTYPES[left], d) for d in DTYPES.values()]
        assert [SHORT.get(r, str(r)) for r in got] == row.split(), left


def test_operators_promote_like_functions():
    x, i = fx.ones(2, dtype=fx.float16), fx.ones(2, dtype=fx.int32)
    assert (x + 1).dtype == (1.5 * x).dtype == (x / i).dtype == (2**x).dtype == fx.float16
    assert (i + 1.5).dtype == (i / 2).dtype == (i**2.0).dtype == fx.float32
    assert (i // 2).dtype == (i % 2).dtype == (i**2).dtype == (-i).dtype == fx.int32
    assert (i == 1.5).dtype == (i < x).dtype == fx.bool


def test_number_operands_are_exact():
    """A Python number takes part at the width of the result, not rounded to the default dtype before."""
    assert (fx.zeros(1, dtype=fx.float64) + 0.1).item() == 0.1
    assert (fx.zeros(1, dtype=fx.int64) + (2**53 + 1)).item() == 2**53 + 1
    assert fx.tensor([2**53 + 1]).eq(2**53 + 1).item()


@pytest.mark.parametrize("name", ["cat", "stack"])
def test_joining_promotes(name):
    join = getattr(fx, name)
    parts = [fx.ones(2, dtype=fx.int32), fx.ones(2, dtype=fx.float16)]
    assert join(parts).dtype == fx.float16
    assert join([fx.ones(2, dtype=fx.uint8), fx.ones(2, dtype=fx.int8)]).dtype == fx.int16
