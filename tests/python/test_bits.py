"""Bits: the same for any threads, strides and batch neighbours, and the same as recorded.

Calls are made from the function table: whatever can be called with one tensor (and, where the schema asks for more,
with operands of the same shape or the values of FILL and ARGUMENTS) is held to these properties.

    python tests/python/test_bits.py --record      writes data/golden_bits.json anew
"""

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import fluxion as fx
from checks import DTYPES, FLOATS, digest
from fluxion._schema import parse

GOLDEN = Path(__file__).parent / "data/golden_bits.json"
FUNCTION = 1  # the flag of functions in _schemas()
FILL = {
    "dim": -1,
    "dims": (-1,),
    "shape": (-1,),
    "size": (2,),
    "repeats": 2,
    "k": 3,
    "p": 1.5,
    "n": 1,
    "decimals": 1,
}
ARGUMENTS = {
    "threshold": (0.1, 0.5),
    "hardtanh": (-0.5, 0.5),
    "clamp": (-0.25, 0.5),
    "clamp_min": (-0.25,),
    "clamp_max": (0.5,),
    "transpose": (0, 1),
    "swapaxes": (0, 1),
    "swapdims": (0, 1),
    "movedim": (0, 1),
    "moveaxis": (0, 1),
    "chunk": (3,),
    "split": (5,),
    "narrow": (1, 2, 7),
    "select": (1, 4),
    "roll": (3, 1),
    "pad": ((1, 2),),
    "unfold": (1, 3, 2),
    "pow": (2.5,),
    "permute": (0, 1),
    "tile": ((1, 2),),
    "unflatten": (1, (2, -1)),
    "tensor_split": (2, 1),
    "hsplit": (2,),
    "full_like": (0.7,),
}
RANDOM = "bernoulli dropout feature_dropout multinomial normal poisson rand_like randn_like randint_like".split()
UNDEFINED = "empty empty_like".split()
ACROSS_ROWS = (
    "msort roll rot90 flipud tril triu unique unique_consecutive cartesian_prod take put take_along_dim masked_scatter "
    "diag diagonal index index_put masked_select tensor_split outer scaled_dot_product_attention"
).split()


def numbers(shape, salt=0):
    """Fixed values in [-0.95, 0.95)."""
    n = int(np.prod(shape))
    k = (
        np.arange(n, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(40503 * salt)
    ) % np.uint64(2**32)
    return (k.astype(float) / 2**32 * 1.9 - 0.95).reshape(shape)


def data(shape, dtype, salt=0):
    """Fixed values of a named dtype; integers in [-95, 95), or [0, 190)."""
    values = numbers(shape, salt)
    if dtype == "bool":
        return fx.from_numpy(values > 0)
    if dtype in FLOATS:
        return fx.from_numpy(values).to(getattr(fx, dtype))
    return fx.from_numpy(np.floor(values * 100) + (95 if dtype == "uint8" else 0)).to(
        getattr(fx, dtype)
    )


def operand(kind, name, x):
    """A value for a parameter without a default; None if there is no way to tell."""
    if kind in ("Tensor", "Number"):
        return (x.flip(-1) if x.dim() else x) * 1 if x.dtype != fx.bool else ~x
    if kind == "Tensor[]":
        return [x, x]
    return FILL.get(name)


def call_of(schema):
    """f(x) for a function of the table, or None."""
    first, *rest = schema.parameters or [None]
    if (
        first is None
        or first.type not in ("Tensor", "Number", "Tensor[]")
        or schema.name in RANDOM + UNDEFINED
    ):
        return None
    if any(p.type == "Generator?" for p in rest):
        return None
    f = getattr(fx, schema.name)
    if schema.name in ARGUMENTS:
        return lambda x: f(x, *ARGUMENTS[schema.name])
    needed = [p for p in rest if p.default is None and not p.type.endswith("?")]

    def call(x):
        return f(
            [x, x] if first.type == "Tensor[]" else x, *(operand(p.type, p.name, x) for p in needed)
        )

    return call if all(operand(p.type, p.name, fx.ones(1)) is not None for p in needed) else None


def linear(x):
    n = x.shape[-1]
    return fx.nn.functional.linear(
        x, data((17, n), "float32", 3).to(x.dtype), data((17,), "float32", 4).to(x.dtype)
    )


def convolution(x):
    images = x.reshape(x.shape[0], 1, -1, 4)
    return fx.nn.functional.conv2d(
        images, data((5, 1, 3, 3), "float32", 5).to(x.dtype), padding=1
    ).flatten(1)


def attention(x):
    q = x.reshape(x.shape[0], 2, -1, 4)
    return fx.nn.functional.scaled_dot_product_attention(q, q * 2, q + 1, is_causal=True).flatten(1)


def batch_norm(x):
    n = x.shape[-1]
    mean, variance = data((n,), "float32", 6).to(x.dtype), data((n,), "float32", 7).to(x.dtype) + 2
    return fx.nn.functional.batch_norm(x, mean, variance, mean, variance)


# Functions of more than one shape.
MORE = {
    "matmul": lambda x: x @ data((x.shape[-1], 19), "float32", 1).to(x.dtype),
    "bmm": lambda x: fx.bmm(
        x.unsqueeze(1), data((x.shape[-1], 6), "float32", 2).to(x.dtype).expand(x.shape[0], -1, -1)
    ),
    "mv": lambda x: fx.mv(x, data((x.shape[-1],), "float32", 2).to(x.dtype)),
    "linear": linear,
    "conv2d": convolution,
    "attention": attention,
    "batch_norm": batch_norm,
    "layer_norm": lambda x: fx.nn.functional.layer_norm(x, x.shape[-1:]),
    "rms_norm": lambda x: fx.nn.functional.rms_norm(x, x.shape[-1:]),
    "group_norm": lambda x: fx.nn.functional.group_norm(x, 4),
    "cross_entropy": lambda x: fx.nn.functional.cross_entropy(
        x, x.argmax(-1), reduction="none", label_smoothing=0.1
    ),
    "mm": lambda x: x.mm(data((x.shape[-1], 5), "float32", 1).to(x.dtype)),
    "addmm": lambda x: fx.addmm(
        fx.ones(1, dtype=x.dtype),
        x,
        data((x.shape[-1], 5), "float32", 1).to(x.dtype),
        beta=0.5,
        alpha=2,
    ),
    "dot": lambda x: x.reshape(-1).dot(x.reshape(-1).flip(0)),
    "outer": lambda x: fx.outer(x[:, 0], x[0]),
    "conv1d": lambda x: fx.nn.functional.conv1d(
        x.unsqueeze(1), data((3, 1, 5), "float32", 2).to(x.dtype), stride=2
    ).flatten(1),
    "conv2d strided": lambda x: fx.nn.functional.conv2d(
        x.reshape(x.shape[0], 2, -1, 4),
        data((4, 1, 3, 3), "float32", 5).to(x.dtype),
        stride=2,
        padding=1,
        groups=2,
    ).flatten(1),
    "max_pool2d": lambda x: fx.nn.functional.max_pool2d(x.reshape(x.shape[0], 1, -1, 4), 2).flatten(
        1
    ),
    "avg_pool2d": lambda x: fx.nn.functional.avg_pool2d(x.reshape(x.shape[0], 1, -1, 4), 2).flatten(
        1
    ),
    "sum of columns": lambda x: x.sum(0),
    "mean of columns": lambda x: x.mean(0),
    "variance of columns": lambda x: x.var(0),
    "softmax of columns": lambda x: x.softmax(0),
    "sum of all": lambda x: x.sum(),
    "index": lambda x: x[:, x[0].argsort()],
    "lerp": lambda x: x.lerp(x * 2, 0.3),
    "gather": lambda x: x.gather(1, x.argsort(1)),
    "index_select": lambda x: x.index_select(1, order(x)),
    "index_add": lambda x: x.index_add(1, order(x) // 2, x * 2),
    "index_copy": lambda x: x.index_copy(1, order(x), x * 2),
    "index_fill": lambda x: x.index_fill(1, order(x)[:3], 0.5),
    "index_put": lambda x: x.index_put(
        (fx.arange(x.shape[0]), fx.arange(x.shape[0]) % 3), x[:, 5], accumulate=True
    ),
    "scatter": lambda x: x.scatter(1, x.argsort(1), x * 2),
    "scatter_add": lambda x: x.scatter_add(1, x.argsort(1) // 3, x),
    "masked_fill": lambda x: x.masked_fill(x > 0.5, 2),
    "masked_select": lambda x: x.masked_select(x > 0.5),
    "bucketize": lambda x: fx.bucketize(x, fx.linspace(-0.9, 0.9, 17).to(x.dtype)),
    "embedding": lambda x: fx.nn.functional.embedding(
        x.argsort(1), data((x.shape[1], 3), "float32", 8).to(x.dtype)
    ),
    "prelu": lambda x: fx.nn.functional.prelu(x, fx.tensor([0.3]).to(x.dtype)),
    "setitem": lambda x: write(x.clone()),
    "cast": lambda x: x.to(fx.float16).to(fx.bfloat16).to(fx.int32).to(fx.float64),
}


def order(x):
    """A fixed permutation of the columns."""
    return fx.arange(x.shape[1]) * 7 % x.shape[1]


def write(x):
    x[:, 1::3] = x[:, ::3][:, : x[:, 1::3].shape[1]] * 2
    return x


def table():
    calls = {}
    for text, _, flags in fx._C._schemas():
        schema = parse(text)
        if flags & FUNCTION and not schema.name.startswith("_") and schema.name not in calls:
            calls[schema.name] = call_of(schema)
    return {name: f for name, f in {**calls, **MORE}.items() if f}


CALLS = table()


def flat(result):
    """All tensors of a result."""
    if isinstance(result, fx.Tensor):
        return [result]
    return [t for r in result for t in flat(r)] if isinstance(result, (tuple, list)) else []


@functools.cache
def works(name, dtype):
    """Whether the call is defined for that dtype, and whether only for positive values."""
    for positive in (False, True):
        try:
            out = flat(CALLS[name](inputs((4, 24), dtype, positive)))
        except (
            RuntimeError,
            TypeError,
            NotImplementedError,
            ValueError,
            IndexError,
            AttributeError,
        ):
            return None
        if out and not any(t.is_floating_point() and t.isnan().any() for t in out):
            return {"positive": positive}
    return None


def inputs(shape, dtype, positive=False):
    x = data(shape, dtype)
    return x.abs().clamp_min(0.05) if positive and dtype in FLOATS else x


def setting(name, shape=(6, 24)):
    """(f, x) in the dtype that fits the function best; skips if there is none."""
    for dtype in ("float32", "int64", "bool"):
        if found := works(name, dtype):
            return CALLS[name], inputs(shape, dtype, **found)
    pytest.skip("not callable with one tensor")


def run_with_gradient(f, x):
    """The tensors of f(x), and the gradient of x where there is one."""
    x = x.detach()
    if not x.is_floating_point():
        return flat(f(x))
    x.requires_grad_()
    out = flat(f(x))
    tracked = [t for t in out if t.requires_grad]
    if not tracked:
        return out
    seeds = [data(t.shape, "float32", 9).to(t.dtype) for t in tracked]
    gradient = fx.autograd.grad(tracked, x, seeds, allow_unused=True)[0]
    return [t.detach() for t in out] + [gradient] * (gradient is not None)


@pytest.mark.parametrize("name", CALLS)
def test_one_thread_equals_two(name):
    f, x = setting(name, (257, 1000))
    if name in ("diag_embed", "diagflat"):
        x = x[:2]
    results = []
    for n in (1, 2, 1):
        fx.set_num_threads(n)
        results.append(digest(*run_with_gradient(f, x)))
    assert results[0] == results[1] == results[2]


LAYOUTS = {
    "transposed": lambda x: x.t().contiguous().t(),
    "every second": lambda x: fx.stack([x, x], 2)[:, :, 0],
    "reversed": lambda x: x.flip(0, 1)[::-1, ::-1],
    "offset": lambda x: fx.cat([x[:1], x])[1:],
}


@pytest.mark.parametrize("name", CALLS)
def test_strides_do_not_matter(name):
    f, x = setting(name, (13, 40))
    want = digest(*run_with_gradient(f, x))
    for layout, arrange in LAYOUTS.items():
        y = arrange(x)
        assert y.tolist() == x.tolist()
        assert digest(*run_with_gradient(f, y)) == want, layout


@pytest.mark.parametrize(
    "name", [n for n in CALLS if n not in ACROSS_ROWS and not n.endswith("columns")]
)
def test_row_alone_equals_row_in_a_batch(name):
    f, x = setting(name, (11, 48))
    whole, alone = flat(f(x)), [flat(f(x[i : i + 1])) for i in (0, 4, 10)]
    pairs = [
        (t[i : i + 1], one[k])
        for k, t in enumerate(whole)
        for i, one in zip((0, 4, 10), alone, strict=True)
        if t.dim() and t.shape[0] == 11 and k < len(one) and one[k].shape[:1] == (1,)
    ]
    if not pairs:
        pytest.skip("no row of the result belongs to a row of the input")
    for in_batch, one in pairs:
        assert digest(in_batch) == digest(one)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 16, 33, 100])
def test_contractions_do_not_depend_on_the_batch(rows):
    """Every blocking of M gives each row the same bits."""
    w, b = data((300, 70), "float32", 1), data((70,), "float32", 2)
    x = data((128, 300), "float32")
    want = (x @ w)[:rows]
    assert digest(x[:rows] @ w) == digest(want)
    assert digest(fx.nn.functional.linear(x[:rows], w.t(), b)) == digest(
        fx.nn.functional.linear(x, w.t(), b)[:rows]
    )
    assert digest(x[:rows].t().contiguous().t() @ w.t().contiguous().t()) == digest(want)


def golden_of(name):
    """dtype -> digest of results and gradient."""
    found = {}
    for dtype in DTYPES:
        if how := works(name, dtype):
            try:
                found[dtype] = digest(
                    *run_with_gradient(CALLS[name], inputs((6, 24), dtype, **how))
                )
            except RuntimeError:  # not differentiable there
                continue
    return found


@functools.cache
def golden():
    return json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}


@pytest.mark.parametrize("name", CALLS)
def test_golden(name):
    got = golden_of(name)
    if name not in golden() and got:
        pytest.fail("no bits recorded: python tests/python/test_bits.py --record")
    assert got == golden().get(name, {})


def test_the_table_is_covered():
    assert sum(bool(works(name, "float32") or works(name, "int64")) for name in CALLS) >= 150
    assert not set(golden()) - set(CALLS), "bits of functions that are gone"


if __name__ == "__main__":
    if "--record" not in sys.argv:
        sys.exit(__doc__)
    recorded = {name: found for name in sorted(CALLS) if (found := golden_of(name))}
    GOLDEN.write_text(json.dumps(recorded, indent=1) + "\n")
    print(f"{len(recorded)} functions, {sum(map(len, recorded.values()))} digests")
