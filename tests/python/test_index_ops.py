"""Reading and writing by index: NumPy's results, PyTorch's rules, gradients by finite differences."""

import numpy as np
import pytest

import fluxion as fx
from checks import assert_gradient, assert_same, tensor

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def sample(rng, shape, dtype="float32"):
    values = rng.integers(0, 2 if dtype == "bool" else 100, shape)
    return values.astype(dtype)


def same(result, expected):
    result = result.numpy()
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def check_gradient(function, *arrays):
    """First and second derivatives by every array against finite differences in float64."""
    inputs = [fx.tensor(a, dtype=fx.float64) for a in arrays]
    for i, x in enumerate(inputs):
        assert_gradient(
            lambda at, i=i: function(*inputs[:i], at, *inputs[i + 1 :]), x, order=2, tolerance=1e-5
        )


INDICES = {
    "one list": ([2, 0, -1],),
    "second dim": (slice(None), [1, 1, 0]),
    "pair": ([0, 2, 3], [1, 0, -1]),
    "pair broadcast": ([[0], [3]], [1, 2, 0]),
    "matrix": ([[0, 1], [2, 3]],),
    "apart": ([0, 2], slice(None), [1, 3]),
    "inside": (slice(None), [0, 2], [1, 3]),
    "after slice": (slice(1, 4), [0, 2]),
    "ellipsis": (Ellipsis, [0, 3]),
    "new axis": (None, [0, 1], None),
    "negative step": (slice(None, None, -2), [0, 1]),
    "empty list": ([],),
    "number in a tensor": (np.array(2), [0, 1]),
}


def indices(index, as_tensors):
    convert = lambda i: np.array(i, dtype="int64") if isinstance(i, list) else i
    index = tuple(map(convert, index))
    if not as_tensors:
        return index
    return tuple(fx.tensor(i) if isinstance(i, np.ndarray) else i for i in index)


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16"])
def test_advanced_indexing_equals_numpy(rng, index, dtype):
    x = sample(rng, (5, 3, 4), dtype)
    same(fx.tensor(x)[indices(index, True)], x[indices(index, False)])


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
def test_writing_equals_numpy(rng, index):
    x = sample(rng, (5, 3, 4))
    ours, theirs = fx.tensor(x), x.copy()
    values = sample(rng, theirs[indices(index, False)].shape)
    ours[indices(index, True)] = fx.tensor(values)
    theirs[indices(index, False)] = values
    same(ours, theirs)
    ours[indices(index, True)] = 7
    theirs[indices(index, False)] = 7
    same(ours, theirs)


def random_index(rng, shape):
    """Slices, new axes, masks and lists that broadcast against each other, for some of the dims."""
    space = tuple(rng.integers(1, 4, rng.integers(0, 3)))
    index, dim = [], 0
    while dim < len(shape):
        kind = rng.integers(0, 6)
        if kind == 0:
            index.append(None)
            continue
        if kind == 1:
            dims = rng.integers(1, len(shape) - dim + 1)
            index.append(rng.random(shape[dim : dim + dims]) < 0.5)
            dim += dims
            continue
        if kind in (2, 3):
            own = tuple(1 if rng.random() < 0.3 else n for n in space) or (1,)
            index.append(rng.integers(-shape[dim], shape[dim], own))
        else:
            bounds = [None if rng.random() < 0.4 else int(i) for i in rng.integers(-6, 7, 2)]
            index.append(slice(*bounds, int(rng.choice([1, 2, -1, -2]))))
        dim += 1
    return tuple(index)


@pytest.mark.parametrize("seed", range(400))
def test_random_indices_equal_numpy(seed):
    rng = np.random.default_rng(seed)
    x = sample(rng, tuple(rng.integers(1, 5, rng.integers(1, 5))))
    theirs = random_index(rng, x.shape)
    ours = tuple(fx.tensor(i) if isinstance(i, np.ndarray) else i for i in theirs)
    try:
        expected = x[theirs]
    except IndexError:  # lists and masks that do not broadcast
        with pytest.raises((IndexError, RuntimeError)):
            fx.tensor(x)[ours]
        return
    same(fx.tensor(x)[ours], expected)
    written, values = fx.tensor(x), sample(rng, expected.shape)
    written[ours] = fx.tensor(values)
    x[theirs] = values
    same(written, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks(rng, dtype):
    x = sample(rng, (4, 5), dtype)
    mask, rows = rng.random((4, 5)) < 0.5, rng.random(4) < 0.5
    t = fx.tensor(x)
    same(t[fx.tensor(mask)], x[mask])
    same(t[fx.tensor(rows)], x[rows])
    same(t[fx.tensor(rows), 1:3], x[rows, 1:3])
    same(t[:, fx.tensor(mask[0])], x[:, mask[0]])
    same(t.T[fx.tensor(mask.T.copy())], x.T[mask.T])
    same(t.masked_select(fx.tensor(mask[0])), x[np.broadcast_to(mask[0], x.shape)])
    same(t.masked_fill(fx.tensor(mask), 1), np.where(mask, np.ones((), dtype), x))
    ours, theirs = t.clone(), x.copy()
    ours[fx.tensor(mask)] = 1
    theirs[mask] = 1
    same(ours, theirs)
    same(ours.masked_fill_(fx.tensor(~mask), 0), np.where(mask, theirs, np.zeros((), dtype)))


def test_mask_of_no_dims(rng):
    x = sample(rng, (2, 3))
    for truth in (True, False):
        same(fx.tensor(x)[fx.tensor(truth)], x[np.array(truth)])
        same(fx.tensor(x)[truth], x[truth])


@pytest.mark.parametrize("kind", ["int32", "int64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_index_select_and_gather(rng, dtype, kind):
    x = sample(rng, (4, 6, 3), dtype)
    for dim in range(3):
        list_ = rng.integers(0, x.shape[dim], 5).astype(kind)
        same(fx.index_select(fx.tensor(x), dim, fx.tensor(list_)), x.take(list_, dim))
        at = rng.integers(0, x.shape[dim], (4, 6, 3)).astype(kind)
        same(
            fx.gather(fx.tensor(x), dim, fx.tensor(at)),
            np.take_along_axis(x, at.astype("int64"), dim),
        )
        same(
            fx.tensor(x).take_along_dim(fx.tensor(at), dim),
            np.take_along_axis(x, at.astype("int64"), dim),
        )
    flat = rng.integers(-72, 72, (2, 5)).astype(kind)
    same(fx.take(fx.tensor(x), fx.tensor(flat)), x.take(flat))


def test_gather_reads_the_corner_that_the_index_covers(rng):
    x = sample(rng, (4, 5))
    at = rng.integers(0, 4, (2, 3))
    same(fx.tensor(x).gather(0, fx.tensor(at)), np.take_along_axis(x[:, :3], at, 0))


REDUCE = {"sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64", "uint8"])
def test_scatter_reduce(rng, dtype, reduce, dim):
    x, source = (rng.integers(1, 4, (3, 4, 5)).astype(dtype) for _ in range(2))
    at = rng.integers(0, x.shape[dim], x.shape)
    expected = x.copy()
    for i in np.ndindex(*at.shape):
        to = i[:dim] + (at[i],) + i[dim + 1 :]
        expected[to] = REDUCE[reduce](expected[to], source[i])
    same(fx.tensor(x).scatter_reduce(dim, fx.tensor(at), fx.tensor(source), reduce), expected)
    if reduce == "sum":
        same(fx.tensor(x).scatter_add(dim, fx.tensor(at), fx.tensor(source)), expected)
        same(fx.tensor(x).scatter_add_(dim, fx.tensor(at), fx.tensor(source)), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_keeps_the_last(rng, dtype):
    x, source = sample(rng, (3, 6), dtype), sample(rng, (3, 6), dtype)
    at = rng.integers(0, 6, (3, 6))
    expected = x.copy()
    for i, j in np.ndindex(3, 6):
        expected[i, at[i, j]] = source[i, j]
    same(fx.tensor(x).scatter(1, fx.tensor(at), fx.tensor(source)), expected)
    ours = fx.tensor(x)
    assert ours.scatter_(1, fx.tensor(at), fx.tensor(source)) is ours
    same(ours, expected)
    expected[:, 2] = 1
    same(ours.scatter_(1, fx.full((3, 1), 2, dtype=fx.int64), 1), expected)


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_index_add_copy_fill(rng, dtype):
    x, source = sample(rng, (4, 3), dtype), sample(rng, (5, 3), dtype)
    at = np.array([0, 2, 2, -1, 0])
    added, copied, filled = x.copy(), x.copy(), x.copy()
    for k, row in enumerate(at):
        added[row] += 2 * source[k]
        copied[row] = source[k]
        filled[row] = 9
    t, index = fx.tensor(x), fx.tensor(at)
    same(t.index_add(0, index, fx.tensor(source), alpha=2), added)
    same(t.index_copy(0, index, fx.tensor(source)), copied)
    same(t.index_fill(0, index, 9), filled)
    same(t.clone().index_add_(0, index, fx.tensor(source), alpha=2), added)
    same(t.T.clone().index_copy_(1, index, fx.tensor(source).T), copied.T)
    same(t.clone().index_fill_(0, index, 9), filled)


def test_half_sums_round_once():
    x = fx.zeros(1, dtype=fx.float16)
    ones = fx.ones(4096, dtype=fx.float16)
    assert x.index_add(0, fx.zeros(4096, dtype=fx.int64), ones).item() == 4096
    assert x.scatter_add(0, fx.zeros(4096, dtype=fx.int64), ones).item() == 4096


def test_bfloat16(rng):
    x, at = tensor(sample(rng, (5, 3)), "bfloat16"), fx.tensor([4, 0, 0])
    assert_same(x[at], x.float()[at].bfloat16())
    assert_same(x.gather(0, at[None]), x.float().gather(0, at[None]).bfloat16())
    assert_same(x.index_add(0, at, x[:3]), x.float().index_add(0, at, x[:3].float()).bfloat16())
    assert_same(
        x.scatter_reduce(0, at[None], x, "prod"),
        x.float().scatter_reduce(0, at[None], x.float(), "prod").bfloat16(),
    )
    x[x > 50] = -1
    assert x.max() <= 50


def test_sums_are_in_order_for_any_number_of_threads(rng, threads):
    table = np.zeros((50, 64), "float32")
    at = rng.integers(0, 50, 20000)
    rows = rng.standard_normal((20000, 64)).astype("float32")
    np.add.at(table, at, rows)
    same(fx.zeros(50, 64).index_add(0, fx.tensor(at), fx.tensor(rows)), table)
    ours = fx.zeros(50, 64)
    ours.index_put_((fx.tensor(at),), fx.tensor(rows), accumulate=True)
    same(ours, table)


def test_large_reads_and_writes(rng, threads):
    x = rng.standard_normal((3000, 70)).astype("float32")
    at = rng.integers(-3000, 3000, 5000)
    same(fx.tensor(x)[fx.tensor(at)], x[at])
    columns = rng.integers(0, 70, (3000, 60))
    same(fx.tensor(x).gather(1, fx.tensor(columns)), np.take_along_axis(x, columns, 1))
    rows = rng.integers(0, 3000, (2000, 70))
    same(fx.tensor(x).gather(0, fx.tensor(rows)), np.take_along_axis(x, rows, 0))
    mask = x > 0
    same(fx.tensor(x)[fx.tensor(mask)], x[mask])


def test_nonzero(rng):
    for shape in [(), (0,), (7,), (3, 4), (2, 3, 4), (200, 300)]:
        x = sample(rng, shape, "bool").astype("float32")
        same(fx.tensor(x).nonzero(), np.argwhere(x).astype("int64"))
        columns = fx.nonzero(fx.tensor(x), as_tuple=True)
        for ours, theirs in zip(columns, np.nonzero(np.atleast_1d(x)), strict=True):
            same(ours, theirs)
        assert fx.count_nonzero(fx.tensor(x)).item() == np.count_nonzero(x)
    assert fx.tensor([float("nan"), 0.0, -0.0]).nonzero().tolist() == [[0]]


def test_masked_scatter(rng):
    x, mask = sample(rng, (3, 4)), rng.random((3, 4)) < 0.5
    expected = x.copy()
    expected[mask] = np.arange(mask.sum())
    same(fx.tensor(x).masked_scatter(fx.tensor(mask), fx.arange(12.0)), expected)


def test_writes_through_views_of_self(rng):
    x = sample(rng, (6, 4))
    ours, theirs = fx.tensor(x), x.copy()
    ours[fx.tensor([0, 1, 2])] = ours[3:]
    theirs[[0, 1, 2]] = theirs[3:].copy()
    ours.T[fx.tensor([3, 1])] = ours.T[:2]
    theirs.T[[3, 1]] = theirs.T[:2].copy()
    same(ours, theirs)


def test_saved_values_survive_writes():
    x = fx.tensor([1.0, 2.0, 3.0], requires_grad=True)
    index = fx.tensor([0, 2])
    y = x[index] * 2
    index.fill_(1)
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 2.0]


GRADIENTS = {
    "index": lambda x, v: x[fx.tensor([0, 2, 2]), fx.tensor([1, 0, 0])],
    "mask": lambda x, v: x[
        fx.tensor([[True, False, True], [False, False, True], [True, True, False]])
    ],
    "gather": lambda x, v: x.gather(1, fx.tensor([[0, 0], [2, 1], [1, 1]])),
    "take": lambda x, v: x.take(fx.tensor([8, 0, 0, 3])),
    "index_add": lambda x, v: x.index_add(0, fx.tensor([1, 1, 0]), v),
    "index_copy": lambda x, v: x.index_copy(1, fx.tensor([2, 2, 0]), v),
    "index_fill": lambda x, v: x.index_fill(0, fx.tensor([1, 1]), 3.0) * v,
    "scatter": lambda x, v: x.scatter(0, fx.tensor([[0, 1, 1], [0, 1, 2], [2, 1, 0]]), v),
    "scatter_add": lambda x, v: x.scatter_add(1, fx.tensor([[0, 1, 1], [0, 0, 0]]), v),
    "scatter prod": lambda x, v: x.scatter_reduce(1, fx.tensor([[0, 1, 1], [0, 0, 0]]), v, "prod"),
    "scatter amax": lambda x, v: x.scatter_reduce(1, fx.tensor([[0, 1, 1], [0, 0, 0]]), v, "amax"),
    "scatter mean": lambda x, v: x.scatter_reduce(
        1, fx.tensor([[0, 1, 1], [0, 0, 0]]), v, "mean", include_self=False
    ),
    "index_put": lambda x, v: x.index_put((fx.tensor([0, 0, 1]), fx.tensor([1, 1, 2])), v[0]),
    "index_put apart": lambda x, v: x.reshape(3, 1, 3).index_put(
        (fx.tensor([0, 1]), fx.tensor([0]), fx.tensor([1, 1])), v[0, :2]
    ),
    "masked_fill": lambda x, v: x.masked_fill(fx.tensor([True, False, True]), v[0, 0]),
    "masked_scatter": lambda x, v: x.masked_scatter(fx.tensor([True, False, True]), v),
}


@pytest.mark.parametrize("function", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_gradients(rng, function):
    check_gradient(function, rng.standard_normal((3, 3)), rng.standard_normal((3, 3)))


def test_gradient_of_products_with_zeros():
    x = np.array([[1.0, 0.0, 2.0]])
    source = np.array([[3.0, 0.0, 0.0, 5.0]])
    check_gradient(
        lambda a, b: a.scatter_reduce(1, fx.tensor([[0, 0, 1, 2]]), b, "prod"), x, source
    )


def test_gradient_of_a_write():
    x = np.arange(6.0).reshape(2, 3)

    def write(x, v):
        y = x * 1
        y[fx.tensor([0, 0]), fx.tensor([1, 1])] = v
        y[:, fx.tensor([2])] += v.sum()
        return y

    check_gradient(write, x, np.array([2.0, 3.0]))


def test_gradient_of_a_gradient():
    x = fx.tensor([1.0, 2.0, 3.0], dtype=fx.float64, requires_grad=True)
    y = x[fx.tensor([0, 0, 2])]
    (g,) = fx.autograd.grad((y**3).sum(), x, create_graph=True)
    assert g.tolist() == [6.0, 0.0, 27.0]
    (h,) = fx.autograd.grad(g.sum(), x)
    assert h.tolist() == [12.0, 0.0, 18.0]


ERRORS = [
    (lambda x: x[fx.tensor([0, 3, 7])], IndexError,
     "index 7 is out of range for dim 0 of size 5 (at position 2 of the index)"),
    (lambda x: x[:, fx.tensor([[0, 1], [-5, 0]])], IndexError,
     "index -5 is out of range for dim 1 of size 4 (at position (1, 0) of the index)"),
    (lambda x: x.gather(1, fx.full((5, 1), 4)), IndexError,
     "index 4 is out of range for dim 1 of size 4 (at position (0, 0) of the index)"),
    (lambda x: x.index_add(0, fx.tensor([9]), fx.ones(1, 4)), IndexError,
     "index 9 is out of range for dim 0 of size 5 (at position 0 of the index)"),
    (lambda x: x[fx.ones(5, 3, dtype=fx.bool)], IndexError,
     "the mask's shape (5, 3) does not match the indexed tensor's shape (5, 4) at dim 1: 3 is not 4"),
    (lambda x: x.index_select(0, fx.tensor([[0]])), IndexError,
     "index_select: the index must have at most one dim, got shape (1, 1)"),
    (lambda x: x.index_select(0, fx.tensor([0.5])), RuntimeError,
     "index_select: the index must be int64 or int32, got float32. Convert it with .long()"),
    (lambda x: x.gather(0, fx.tensor([0])), RuntimeError,
     "gather: the index must have as many dims as the tensor, 2, got shape (1,)"),
    (lambda x: x.scatter(0, fx.zeros(2, 5, dtype=fx.int64), 1.0), RuntimeError,
     "scatter: the index of shape (2, 5) is longer in dim 1 than the tensor of shape (5, 4); only dim 0 may be"),
    (lambda x: x.scatter_add(0, fx.zeros(2, 4, dtype=fx.int64), fx.ones(1, 4)), RuntimeError,
     "scatter_add: the index of shape (2, 4) is longer in dim 0 than src of shape (1, 4)"),
    (lambda x: x.index_copy(0, fx.tensor([1]), fx.ones(1, 3)), IndexError,
     "index_copy: source must have shape (1, 4) (the tensor's, with 1 entries along dim 0), got (1, 3)"),
    (lambda x: x.index_add(0, fx.tensor([1]), fx.ones(1, 4, dtype=fx.float64)), RuntimeError,
     "index_add: source must have the tensor's dtype float32, got float64. Convert it with .to()"),
    (lambda x: x.index_put((fx.tensor([1, 2]),), fx.ones(3)), RuntimeError,
     "index_put: values of shape (3,) cannot be broadcast to the indexing result of shape (2, 4)"),
    (lambda x: x.masked_fill(fx.tensor([1, 0, 1, 0]), 0.0), RuntimeError,
     "masked_fill: the mask must be a bool tensor, got int64. Compare it, for example with != 0"),
    (lambda x: x.long().masked_fill(x == 0, -float("inf")), RuntimeError,
     "masked_fill: the value -inf does not fit int64"),
    (lambda x: x.byte().index_fill(0, fx.tensor([1]), 300), RuntimeError,
     "index_fill: the value 300 does not fit uint8"),
    (lambda x: x.scatter_reduce(0, fx.zeros(1, 4, dtype=fx.int64), x, "max"), RuntimeError,
     "scatter_reduce: reduce must be 'sum', 'prod', 'mean', 'amax' or 'amin', got 'max'"),
    (lambda x: x.gather(2, fx.zeros(1, 4, dtype=fx.int64)), IndexError,
     "gather: dim 2 is out of range for a tensor of rank 2; expected -2 to 1"),
    (lambda x: x.index_put((fx.tensor([0]),) * 3, fx.ones(1)), IndexError,
     "too many indices: 3 for a tensor of 2 dims, shape (5, 4)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[e[2][:40] for e in ERRORS])
def test_errors_teach(call, error, text):
    with pytest.raises(error) as raised:
        call(fx.zeros(5, 4))
    assert str(raised.value) == text


def test_a_failed_write_changes_nothing():
    x = fx.zeros(5, 4)
    with pytest.raises(IndexError):
        x[fx.tensor([1, 7])] = 1.0
    assert not x.any()
