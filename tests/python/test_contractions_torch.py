"""The same call in PyTorch and here: products, einsum, convolution, pooling, attention; values, shapes and gradients."""

import numpy as np
import pytest

import fluxion

pytestmark = pytest.mark.torch

TOLERANCE = {"float64": 1e-11, "float32": 3e-5, "float16": 5e-3, "bfloat16": 4e-2}
FLOATS = list(TOLERANCE)


def product(a, b):
    return f"matmul {a} {b}", lambda m, x, y: m.matmul(x, y), [a, b]


def summation(equation, *shapes):
    return f"einsum {equation}", lambda m, *x: m.einsum(equation, *x), shapes


def convolution(kernel, stride=1, padding=0, dilation=1, groups=1):
    def run(m, x, w, b):
        return m.nn.functional.conv2d(x, w, b, stride, padding, dilation, groups)

    name = f"conv2d {kernel} stride {stride} padding {padding} dilation {dilation} groups {groups}"
    return name, run, [(2, 4, 11, 12), (8, 4 // groups, *kernel), (8,)]


def max_pool(kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    def run(m, x):
        return m.nn.functional.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode, True)

    name = f"max_pool2d {kernel} stride {stride} padding {padding} dilation {dilation} ceil {ceil_mode}"
    return name, run, [(2, 3, 13, 14)]


def avg_pool(kernel, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    def run(m, x):
        return m.nn.functional.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad)

    name = f"avg_pool2d {kernel} stride {stride} padding {padding} ceil {ceil_mode} pad {count_include_pad}"
    return name, run, [(2, 3, 13, 14)]


def attention(batch, name, mask=None, **options):
    def run(m, q, k, v):
        given = {} if mask is None else {"attn_mask": mask(m, q)}
        return m.nn.functional.scaled_dot_product_attention(q, k, v, **given, **options)

    return f"attention {batch} {name}", run, [(*batch, 9, 8), (*batch, 11, 8), (*batch, 11, 6)]


def bool_mask(m, q):  # query 2 sees nothing
    rows = [[(3 * i + j) % 4 != 0 and i != 2 for j in range(11)] for i in range(9)]
    return m.tensor(rows)


def added_mask(m, q):
    return (m.arange(99).reshape(9, 11) % 7).to(q.dtype) / 4


def joined_heads(m, x):
    q, k, v = (t.view(2, 10, 4, 3).transpose(1, 2) for t in x.split(12, 2))
    y = m.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).contiguous().view(2, 10, 12)


CASES = [
    product((3, 4), (4, 5)),
    product((4,), (4,)),
    product((3, 4), (4,)),
    product((4,), (4, 5)),
    product((2, 3, 4), (4, 5)),
    product((2, 3, 4), (4,)),
    product((2, 1, 3, 4), (5, 4, 2)),
    product((4,), (2, 4, 5)),
    product((0, 3), (3, 2)),
    product((2, 0), (0, 3)),
    product((70, 300), (300, 90)),
    ("mm", lambda m, a, b: m.mm(a.t(), b), [(6, 5), (6, 7)]),
    ("bmm", lambda m, a, b: m.bmm(a, b.transpose(1, 2)), [(2, 5, 6), (2, 7, 6)]),
    ("mv", lambda m, a, b: m.mv(a, b), [(5, 600), (600,)]),
    ("dot", lambda m, a, b: m.dot(a, b), [(600,), (600,)]),
    ("outer", lambda m, a, b: m.outer(a, b), [(5,), (6,)]),
    ("addmm", lambda m, x, a, b: m.addmm(x, a, b, beta=0.5, alpha=2), [(7,), (5, 6), (6, 7)]),
    ("baddbmm", lambda m, x, a, b: m.baddbmm(x, a, b), [(2, 5, 7), (2, 5, 6), (2, 6, 7)]),
    ("linear", lambda m, x, w, b: m.nn.functional.linear(x, w, b), [(2, 5, 6), (7, 6), (7,)]),
    ("linear without bias", lambda m, x, w: m.nn.functional.linear(x, w), [(5, 6), (7, 6)]),
    (
        "linear of a vector",
        lambda m, x, w, b: m.nn.functional.linear(x, w, b),
        [(6,), (7, 6), (7,)],
    ),
    ("linear to a number", lambda m, x, w: m.nn.functional.linear(x, w), [(5, 6), (6,)]),
    summation("ij,jk->ik", (2, 3), (3, 4)),
    summation("ij,jk", (2, 3), (3, 4)),
    summation("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    summation("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    summation("ii->i", (3, 3)),
    summation("ii", (3, 3)),
    summation("iij->ij", (3, 3, 4)),
    summation("ij->", (2, 3)),
    summation("i,j->ij", (3,), (4,)),
    summation("ijk,kl,lm->ijm", (2, 3, 4), (4, 5), (5, 6)),
    summation("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)),
    summation("ab,b->a", (3, 4), (4,)),
    summation("...,...->...", (2, 3), (3,)),
    summation("ij,ij->ij", (1, 3), (2, 3)),
    convolution((3, 3), padding=1),
    convolution((3, 3), stride=2, padding=1),
    convolution((1, 1)),
    convolution((3, 3), padding=2, dilation=2, groups=2),
    convolution((5, 5), stride=3, padding=2, groups=4),
    convolution((2, 3), stride=(1, 2), padding=(0, 1)),
    (
        "conv2d of a view",
        lambda m, x, w: m.nn.functional.conv2d(x.permute(3, 2, 0, 1), w),
        [(6, 5, 4, 3), (2, 4, 3, 3)],
    ),
    (
        "conv1d",
        lambda m, x, w, b: m.nn.functional.conv1d(x, w, b, 2, 1),
        [(2, 4, 15), (6, 4, 3), (6,)],
    ),
    max_pool(2),
    max_pool(3, 2, 1),
    max_pool(3, 2, 1, dilation=2),
    max_pool((3, 2), (2, 1), (1, 0), ceil_mode=True),
    avg_pool(2),
    avg_pool(3, 2, 1),
    avg_pool(3, 2, 1, ceil_mode=True, count_include_pad=False),
    ("max_pool1d", lambda m, x: m.nn.functional.max_pool1d(x, 3, 2, 1), [(2, 3, 200)]),
    ("avg_pool1d", lambda m, x: m.nn.functional.avg_pool1d(x, 3, 2, 1), [(2, 3, 20)]),
    (
        "adaptive_avg_pool2d",
        lambda m, x: m.nn.functional.adaptive_avg_pool2d(x, (3, 4)),
        [(2, 3, 13, 14)],
    ),
    *(attention(b, "plain") for b in [(), (4,), (2, 3), (2, 2, 2)]),
    attention((2, 3), "causal", is_causal=True),
    attention((2, 3), "bool mask", bool_mask),
    attention((3,), "added mask", added_mask, scale=0.3),
    ("attention of joined heads", joined_heads, [(2, 10, 36)]),
    (
        "attention of grouped queries",
        lambda m, q, k, v: m.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [(2, 6, 9, 8), (2, 2, 11, 8), (2, 2, 11, 6)],
    ),
    (
        "attention with a learned mask",
        lambda m, q, k, v, a: m.nn.functional.scaled_dot_product_attention(q, k, v, a),
        [(2, 9, 8), (2, 11, 8), (2, 11, 6), (9, 11)],
    ),
]


def operands(m, dtype, shapes):
    arrays = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate(shapes)]
    return [m.tensor(a).to(getattr(m, dtype)).requires_grad_(True) for a in arrays]


def as_array(t):
    return t.detach().double().numpy()


def results(m, dtype, run, shapes):
    """The results and the gradients of their first, weighted."""
    inputs = operands(m, dtype, shapes)
    out = run(m, *inputs)
    out = out if isinstance(out, tuple) else (out,)
    weights = np.random.default_rng(99).standard_normal(tuple(out[0].shape))
    (out[0] * m.tensor(weights).to(out[0].dtype)).sum().backward()
    return [as_array(t) for t in out], [as_array(t.grad) for t in inputs]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("run, shapes", [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_equals_torch(run, shapes, dtype):
    torch = pytest.importorskip("torch")
    wanted, ours = (results(m, dtype, run, shapes) for m in (torch, fluxion))
    for want, got in zip(wanted[0] + wanted[1], ours[0] + ours[1], strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(
            got, want, rtol=10 * TOLERANCE[dtype], atol=10 * TOLERANCE[dtype]
        )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize(
    "a, b", [((3, 4), (4, 5)), ((4,), (4,)), ((30, 400), (400, 50)), ((2, 3, 4), (4,))]
)
def test_integer_products_wrap_as_in_torch(a, b, dtype):
    torch = pytest.importorskip("torch")
    arrays = [np.random.default_rng(i).integers(0, 100, s) for i, s in enumerate((a, b))]
    want, got = (
        m.matmul(*(m.tensor(x).to(getattr(m, dtype)) for x in arrays)) for m in (torch, fluxion)
    )
    assert got.numpy().tolist() == want.numpy().tolist()
