"""Joining, cutting, padding, repeating, flipping, triangles, diagonals, windows: NumPy's results and gradients."""

import numpy as np
import pytest

import fluxion as fx
import fluxion.nn.functional as F
from test_index_ops import DTYPES, check_gradient, same, sample


@pytest.mark.parametrize("dtype", DTYPES)
def test_cat_and_stack(rng, dtype):
    a, b = sample(rng, (2, 3, 4), dtype), sample(rng, (2, 1, 4), dtype)
    same(fx.cat([fx.tensor(a), fx.tensor(b)], 1), np.concatenate([a, b], 1))
    same(fx.cat((fx.tensor(a), fx.tensor(a)), -1), np.concatenate([a, a], -1))
    same(fx.concat([fx.tensor(a)]), a)
    for dim in (0, 1, 3, -2):
        same(fx.stack([fx.tensor(a), fx.tensor(a)], dim), np.stack([a, a], dim))
    same(fx.cat([fx.tensor(a).mT, fx.tensor(a).mT], 1), np.concatenate([a.swapaxes(1, 2)] * 2, 1))


def test_stacks(rng):
    a, b = sample(rng, (3,)), sample(rng, (3,))
    m = sample(rng, (3, 2))
    ours, other = [fx.tensor(a), fx.tensor(b)], [fx.tensor(m), fx.tensor(m)]
    for f in ("hstack", "vstack", "dstack", "column_stack"):
        same(getattr(fx, f)(ours), getattr(np, f)([a, b]))
        same(getattr(fx, f)(other), getattr(np, f)([m, m]))
    same(fx.row_stack(ours), np.vstack([a, b]))


def test_cat_promotes_and_skips_empty_lists():
    assert fx.cat([fx.ones(2, dtype=fx.int32), fx.ones(1, dtype=fx.float16)]).dtype == fx.float16
    assert fx.cat([fx.zeros(0), fx.ones(2, 3)]).shape == (2, 3)


def test_cat_of_many(rng, threads):
    parts = [rng.standard_normal((n, 5)).astype("float32") for n in rng.integers(0, 4, 3000)]
    same(fx.cat([fx.tensor(p) for p in parts]), np.concatenate(parts))
    large = [rng.standard_normal((300, n)).astype("float32") for n in (400, 1, 700)]
    same(fx.cat([fx.tensor(p) for p in large], 1), np.concatenate(large, 1))


def test_cuts_are_views(rng):
    x = sample(rng, (7, 6))
    t = fx.tensor(x)
    cuts = {
        "split": (t.split(3), [x[:3], x[3:6], x[6:]]),
        "split sizes": (t.split([2, 5]), [x[:2], x[2:]]),
        "split dim": (fx.split(t, 4, dim=1), [x[:, :4], x[:, 4:]]),
        "chunk": (t.chunk(3), [x[:3], x[3:6], x[6:]]),
        "tensor_split": (t.tensor_split(3), np.array_split(x, 3)),
        "tensor_split at": (t.tensor_split([1, -2], 1), np.array_split(x, [1, 4], 1)),
        "hsplit": (t.hsplit(2), np.hsplit(x, 2)),
        "vsplit": (t.vsplit([1, 3]), np.vsplit(x, [1, 3])),
        "unbind": (t.unbind(1), list(x.T)),
    }
    for ours, theirs in cuts.values():
        assert isinstance(ours, tuple)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    t.chunk(2)[1].zero_()
    assert not t[4:].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_pad_with_a_value(rng, dtype):
    x = sample(rng, (3, 4), dtype)
    same(F.pad(fx.tensor(x), (1, 2)), np.pad(x, ((0, 0), (1, 2))))
    same(F.pad(fx.tensor(x), (1, 0, 2, 3), value=1), np.pad(x, ((2, 3), (1, 0)), constant_values=1))
    same(F.pad(fx.tensor(x), (-1, 2, 1, -2)), np.pad(x[:1, 1:], ((1, 0), (0, 2))))


@pytest.mark.parametrize(
    ("mode", "numpy_mode"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
def test_pad_by_mirrors(rng, mode, numpy_mode):
    x = sample(rng, (2, 3, 4, 5))
    amounts = ((0, 0), (0, 0), (2, 3), (1, 4))
    same(F.pad(fx.tensor(x), (1, 4, 2, 3), mode=mode), np.pad(x, amounts, mode=numpy_mode))


def test_flip_and_roll(rng):
    x = sample(rng, (3, 4, 5))
    t = fx.tensor(x)
    same(t.flip(0), np.flip(x, 0).copy())
    same(fx.flip(t, [0, -1]), np.flip(x, (0, 2)).copy())
    same(t.fliplr(), x[:, ::-1])
    same(t.roll(2), np.roll(x, 2))
    same(fx.roll(t, (1, -2), (0, 1)), np.roll(x, (1, -2), (0, 1)))
    for k in range(-2, 4):
        same(fx.rot90(t, k, (0, 2)), np.rot90(x, k, (0, 2)))
    t.flip(0).zero_()
    same(t, x)


def test_repetitions(rng):
    x = sample(rng, (2, 3))
    t = fx.tensor(x)
    same(t.repeat(2, 1, 3), np.tile(x, (2, 1, 3)))
    same(fx.tile(t, (2,)), np.tile(x, 2))
    same(t.repeat_interleave(2), np.repeat(x, 2))
    same(t.repeat_interleave(3, dim=0), np.repeat(x, 3, 0))
    same(fx.repeat_interleave(t, fx.tensor([1, 0, 2]), dim=1), np.repeat(x, [1, 0, 2], 1))
    same(fx.repeat_interleave(fx.tensor([2, 0, 1])), np.repeat([0, 1, 2], [2, 0, 1]))
    t.repeat(1, 1).zero_()
    same(t, x)


def test_grids():
    a, b = fx.arange(3), fx.arange(4)
    for indexing in ("ij", "xy"):
        ours = fx.meshgrid(a, b, indexing=indexing)
        for x, y in zip(
            ours, np.meshgrid(np.arange(3), np.arange(4), indexing=indexing), strict=True
        ):
            same(x, y)
    assert fx.cartesian_prod(fx.tensor([1, 2]), fx.tensor([3, 4])).tolist() == [
        [1, 3],
        [1, 4],
        [2, 3],
        [2, 4],
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_triangles(rng, dtype):
    x = sample(rng, (2, 4, 5), dtype)
    for k in range(-5, 6):
        same(fx.tril(fx.tensor(x), k), np.tril(x, k))
        same(fx.tensor(x).triu(k), np.triu(x, k))
    same(fx.tensor(x).mT.tril(), np.tril(x.swapaxes(1, 2)))
    t = fx.tensor(x)
    assert t.tril_() is t
    same(t, np.tril(x))
    same(fx.tril_indices(3, 4, 1), np.stack(np.tril_indices(3, 1, 4)))
    same(fx.triu_indices(3, 4, -1), np.stack(np.triu_indices(3, -1, 4)))


def test_triangle_drops_nan():
    assert fx.full((2, 2), float("nan")).tril(-2).tolist() == [[0, 0], [0, 0]]


def test_diagonals(rng):
    x = sample(rng, (4, 5, 3))
    t = fx.tensor(x)
    for k in (-4, -1, 0, 2, 5):
        same(t.diagonal(k), np.diagonal(x, k))
        same(fx.diagonal(t, k, 2, 0), np.diagonal(x, k, 2, 0))
        same(fx.diag(t[0], k), np.diag(x[0], k))
        same(fx.diag(t[0, 0], k), np.diag(x[0, 0], k))
        same(fx.diagflat(t[0], k), np.diagflat(x[0], k))
    same(fx.diag_embed(t[:, :, 0], 1), np.stack([np.diag(row, 1) for row in x[:, :, 0]]))
    same(fx.eye(3, 4), np.eye(3, 4, dtype="float32"))
    same(fx.eye(4, 3, dtype=fx.int64), np.eye(4, 3, dtype="int64"))
    assert fx.trace(t[0]).item() == np.trace(x[0])
    t.diagonal().zero_()
    assert not t.diagonal().any()
    assert t.any()


def test_windows(rng):
    x = sample(rng, (3, 8))
    expected = np.lib.stride_tricks.sliding_window_view(x, 3, 1)
    same(fx.tensor(x).unfold(1, 3, 1), expected)
    same(fx.tensor(x).unfold(-1, 3, 2), expected[:, ::2])


def test_columns_of_images(rng):
    x = sample(rng, (2, 3, 5, 6))
    columns = F.unfold(fx.tensor(x), (2, 3), padding=(1, 0), stride=(2, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    expected = np.lib.stride_tricks.sliding_window_view(padded, (2, 3), (2, 3))[:, :, ::2]
    expected = expected.transpose(0, 1, 4, 5, 2, 3).reshape(2, 18, 12)
    same(columns, expected)
    count = F.fold(fx.ones_like(columns), (5, 6), (2, 3), padding=(1, 0), stride=(2, 1))
    same(F.fold(columns, (5, 6), (2, 3), padding=(1, 0), stride=(2, 1)) / count, x)


def test_counts(rng):
    x = rng.integers(0, 9, 50)
    same(fx.bincount(fx.tensor(x), minlength=12), np.bincount(x, minlength=12))
    weights = rng.standard_normal(50)
    same(fx.bincount(fx.tensor(x), fx.tensor(weights)), np.bincount(x, weights))
    same(fx.isin(fx.tensor(x), fx.tensor([3, 5])), np.isin(x, [3, 5]))
    same(fx.isin(fx.tensor(x), 3, invert=True), np.isin(x, 3, invert=True))


def test_one_hot():
    x = fx.tensor([[0, 2], [1, 1]])
    same(F.one_hot(x), np.eye(3, dtype="int64")[[[0, 2], [1, 1]]])
    same(F.one_hot(x, 5), np.eye(5, dtype="int64")[[[0, 2], [1, 1]]])


GRADIENTS = {
    "cat": lambda x, y: fx.cat([x, y, x], 1),
    "stack": lambda x, y: fx.stack([x, y], -1),
    "split": lambda x, y: x.split([1, 3], 1)[1] * y.chunk(2, 1)[0][:, :1],
    "unbind": lambda x, y: x.unbind(0)[1] * y.unbind(1)[2][0],
    "pad": lambda x, y: F.pad(x, (1, -2, 0, 1), value=3.0),
    "reflect": lambda x, y: F.pad(x, (2, 3, 1, 0), mode="reflect"),
    "replicate": lambda x, y: F.pad(x, (2, 3), mode="replicate"),
    "circular": lambda x, y: F.pad(x, (2, 3), mode="circular"),
    "flip": lambda x, y: x.flip(0, 1),
    "roll": lambda x, y: x.roll((1, 3), (0, 1)),
    "rot90": lambda x, y: x.rot90(1, (0, 1)),
    "repeat": lambda x, y: x.repeat(2, 3),
    "repeat_interleave": lambda x, y: x.repeat_interleave(fx.tensor([2, 0, 1]), 0),
    "tril": lambda x, y: x.tril(1) * y.triu(-1),
    "diagonal": lambda x, y: x.diagonal(1) * y.diagonal(-1)[0],
    "diag": lambda x, y: fx.diag(x[0]) + x.diag().sum(),
    "diag_embed": lambda x, y: fx.diag_embed(x, 1),
    "unfold": lambda x, y: x.unfold(1, 3, 1),
    "F.unfold": lambda x, y: F.unfold(x[None], 2, padding=1, dilation=2),
    "write to a diagonal": lambda x, y: with_diagonal(x, y),
}


def with_diagonal(x, y):
    z = x * 2
    z.diagonal()[1:] = y[0, :2]
    return z


@pytest.mark.parametrize("function", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_gradients(rng, function):
    check_gradient(function, rng.standard_normal((3, 4)), rng.standard_normal((3, 4)))


ERRORS = [
    (lambda x: fx.cat([x, fx.zeros(3, 5)]), RuntimeError,
     "cat: tensors must agree in all dims but 0: tensor 0 has shape (3, 4), tensor 1 has (3, 5)"),
    (lambda x: fx.cat([]), RuntimeError, "cat: needs at least one tensor, got an empty list"),
    (lambda x: fx.stack([x, x.T]), RuntimeError,
     "stack: tensors must have one shape: tensor 0 has (3, 4), tensor 1 has (4, 3)"),
    (lambda x: fx.cat([fx.tensor(1.0)]), RuntimeError,
     "cat: 0-dim tensors cannot be joined along a dim. Use stack()"),
    (lambda x: x.split([1, 1]), RuntimeError,
     "split: sizes (1, 1) add up to 2, but dim 0 has size 3"),
    (lambda x: x.hsplit(3), RuntimeError,
     "hsplit: dim 1 of size 4 cannot be cut into 3 equal parts. Use tensor_split()"),
    (lambda x: F.pad(x, (4, 0), mode="reflect"), RuntimeError,
     "pad: mode 'reflect' can add at most 3 elements to either end of dim 1 of shape (3, 4), got (4, 0)"),
    (lambda x: F.pad(x, (-3, -2)), RuntimeError,
     "pad: (-3, -2) removes more than the 4 elements of dim 1 of shape (3, 4)"),
    (lambda x: F.pad(x, (1, 2, 3)), RuntimeError,
     "pad: needs (before, behind) for at most 2 dims, last dim first, got 3 numbers"),
    (lambda x: x.flip(0, 0), RuntimeError, "flip: dim 0 is named twice in (0, 0)"),
    (lambda x: x.unfold(0, 5, 1), RuntimeError, "unfold: a window of size 5 does not fit dim 0 of size 3"),
    (lambda x: x.repeat(2), RuntimeError, "repeat: needs a count for each of the 2 dims, got (2,)"),
    (lambda x: x[0].tril(), RuntimeError, "tril: needs at least 2 dims, got shape (4,)"),
    (lambda x: F.one_hot(fx.tensor([3]), 3), RuntimeError, "one_hot: class 3 needs num_classes > 3, got 3"),
    (lambda x: x.diagonal(0, 1, 1), RuntimeError, "diagonal: dim1 and dim2 must differ, both are 1"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[e[2][:40] for e in ERRORS])
def test_errors_teach(call, error, text):
    with pytest.raises(error) as raised:
        call(fx.zeros(3, 4))
    assert str(raised.value) == text
