"""Indexing against NumPy: random mixtures of all kinds of indices, read and written."""

import numpy as np
import pytest

import fluxion as fx

SHAPES = [(5,), (3, 4), (2, 3, 4), (2, 1, 3, 2), (2, 2, 2, 2, 2)]


def make(shape, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def random_slice(rng, n):
    pick = lambda: None if rng.random() < 0.3 else int(rng.integers(-n - 2, n + 3))
    return slice(
        pick(), pick(), int(rng.choice([-3, -2, -1, 1, 2, 3])) if rng.random() < 0.7 else None
    )


def random_index(rng, shape, advanced):
    """An index tuple of NumPy objects; at most one index shape is used, so that index arrays broadcast."""
    length = int(rng.integers(0, 4))
    wide = bool(rng.random() < 0.3)
    items, dim = [], 0
    while dim < len(shape):
        n = shape[dim]
        kind = rng.choice(
            [
                "slice",
                "int",
                "none",
                "full",
                "stop",
                *(["array", "mask", "array"] if advanced else []),
            ]
        )
        if kind == "none":
            items.append(None)
            continue
        if kind == "stop":
            break
        if kind == "slice":
            items.append(random_slice(rng, n))
        elif kind == "full":
            items.append(slice(None))
        elif kind == "int":
            items.append(int(rng.integers(-n, n)))
        elif kind == "array":
            size = (2, length) if wide and rng.random() < 0.5 else (length,)
            items.append(rng.integers(-n, n, size=size))
        else:
            mask = np.zeros(n, bool)
            mask[rng.permutation(n)[: min(n, length)]] = True
            if mask.sum() != length:
                continue
            items.append(mask)
        dim += 1
    if rng.random() < 0.3:
        items.insert(int(rng.integers(0, len(items) + 1)), ...)
        # what an ellipsis in the middle indexes was chosen for other dims: keep only indices that fit everywhere
        items = [i for i in items if i is None or i is ... or isinstance(i, slice)]
    return tuple(items)


def split_ints(index, rank):
    """PyTorch takes ints out first, NumPy lets them broadcast with arrays: the basic part, then the rest."""
    used = sum(i is not None and i is not ... for i in index)
    flat = []
    for i in index:
        flat += [slice(None)] * (rank - used) if i is ... else [i]
    first = tuple(i if isinstance(i, int) else slice(None) for i in flat if i is not None)
    return (*first, ...), (*(i for i in flat if not isinstance(i, int)), ...)


def to_fluxion(item, rng):
    if isinstance(item, np.ndarray):
        choice = rng.integers(0, 3)
        return (
            fx.from_numpy(item)
            if choice == 0
            else item.tolist()
            if choice == 1 and item.size
            else item
        )
    return item


@pytest.mark.parametrize("advanced", [False, True], ids=["basic", "advanced"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_read_and_write_like_numpy(shape, advanced, rng):
    for _ in range(150):
        index = random_index(rng, shape, advanced)
        a, t = make(shape), fx.from_numpy(make(shape))
        first, rest = split_ints(index, len(shape))
        given = tuple(to_fluxion(i, rng) for i in index)
        try:
            want = a[first][rest]
        except IndexError:
            with pytest.raises(IndexError):
                t[given]
            continue
        got = t[given]
        assert tuple(got.shape) == want.shape, index
        assert np.array_equal(np.asarray(got), want), index
        value = rng.standard_normal(want.shape).astype(np.float32)
        a[first][rest] = value
        t[given] = fx.from_numpy(value)
        if not advanced or all(
            len(np.unique(i)) == i.size for i in index if isinstance(i, np.ndarray)
        ):
            assert np.array_equal(t.numpy(), a), index


def test_basic_indices_are_views():
    t = fx.zeros(3, 4)
    t[1][2] = 5
    t[:, 0][0] = 6
    t[..., None][2, 3, 0] = 7
    t[::-1][0, 1] = 8
    assert t.tolist() == [[6, 0, 0, 0], [0, 0, 5, 0], [0, 8, 0, 7]]


def test_full_index_is_an_alias():
    t = fx.zeros(2)
    for alias in (t[:], t[...], t[()]):
        assert alias is not t
        alias += 1
    assert t.tolist() == [3, 3]


def test_ints_of_all_kinds():
    t = fx.arange(5)
    assert [t[i].item() for i in (2, -1, np.int64(3), fx.tensor(1), np.array(4))] == [2, 4, 3, 1, 4]


def test_booleans_add_a_dim():
    t = fx.arange(3)
    assert t[True].shape == (1, 3)
    assert t[False].shape == (0, 3)
    assert t[fx.tensor(True)].shape == (1, 3)


def test_ints_are_taken_out_before_index_tensors():
    t = fx.zeros(2, 3, 4)
    assert t[0, :, [1, 2]].shape == (3, 2)
    assert t[[0, 1], :, [1, 2]].shape == (2, 3)
    assert t[:, [0, 1], [1, 2]].shape == (2, 2)


def test_masks_over_several_dims():
    a = make((2, 3, 4))
    mask = a[..., 0] > 3
    t = fx.from_numpy(a.copy())
    assert np.array_equal(t[fx.from_numpy(mask)].numpy(), a[mask])
    assert np.array_equal(t[fx.from_numpy(mask), 1:3].numpy(), a[mask, 1:3])
    t[fx.from_numpy(mask)] = -1
    a[mask] = -1
    assert np.array_equal(t.numpy(), a)


def test_uint8_is_a_mask():
    assert fx.arange(3)[fx.tensor([1, 0, 1], dtype=fx.uint8)].tolist() == [0, 2]


def test_empty_indices():
    t = fx.zeros(3, 2)
    assert t[[]].shape == (0, 2)
    assert t[5:2].shape == (0, 2)
    assert t[fx.zeros(3, dtype=fx.bool)].shape == (0, 2)


@pytest.mark.parametrize(
    "value", [1, 2.5, True, [1, 2, 3], np.ones(3), np.float32(2), fx.ones(1, 1, 3)], ids=repr
)
def test_written_values(value):
    t = fx.zeros(2, 3)
    t[0] = value
    want = np.zeros((2, 3), np.float32)
    want[0] = np.asarray(value).reshape(-1)
    assert np.array_equal(t.numpy(), want)


def test_values_are_converted():
    t = fx.zeros(3, dtype=fx.int64)
    t[0] = 1.7
    t[[1, 2]] = fx.tensor([2.2, 3.9])
    assert t.tolist() == [1, 2, 3]


def test_augmented_assignment():
    t = fx.zeros(4)
    t[1:3] += 2
    t[[0, 3]] -= 1
    t[t > 1] *= 10
    assert t.tolist() == [-1, 20, 20, -1]


def test_augmented_assignment_keeps_gradients():
    x = fx.ones(4, requires_grad=True)
    y = x * 2
    y[1:3] *= 5
    y.sum().backward()
    assert x.grad.tolist() == [2, 10, 10, 2]


def test_gradients_flow_through_indices():
    x = fx.arange(6.0).reshape(2, 3).requires_grad_()
    (x[:, [0, 0, 2]].sum() + x[1].sum() + x[::2, ::-1].sum()).backward()
    assert x.grad.tolist() == [[3, 1, 2], [3, 1, 2]]


def test_iteration_length_and_membership():
    t = fx.arange(6).reshape(3, 2)
    assert [row.tolist() for row in t] == [[0, 1], [2, 3], [4, 5]]
    assert len(t) == 3
    assert 3 in t and 7 not in t and fx.tensor(5) in t
    assert [row.tolist() for row in reversed(t)] == [[4, 5], [2, 3], [0, 1]]
    with pytest.raises(TypeError, match="0-d"):
        iter(fx.tensor(1.0))
    with pytest.raises(TypeError, match="0-d"):
        len(fx.tensor(1.0))


@pytest.mark.parametrize(
    ("index", "kind", "text"),
    [
        (4, IndexError, "index 4 is out of range for dim 0 of size 3"),
        (-4, IndexError, "index -4 is out of range"),
        ((0, 0), IndexError, "too many indices: 2 for a tensor of 1 dim"),
        ("a", IndexError, "only ints, slices .* are indices, not str"),
        (1.5, IndexError, "not float"),
        ([0.5], IndexError, "tensors used as indices must be integers or bool, not float32"),
        (slice(None, None, 0), ValueError, "slice step cannot be zero"),
        ([5], IndexError, "5"),
        ([True], IndexError, "mask"),
    ],
    ids=str,
)
def test_errors(index, kind, text):
    with pytest.raises(kind, match=text):
        fx.arange(3.0)[index]


def test_write_errors():
    t = fx.zeros(2, 3)
    with pytest.raises(TypeError, match="can't assign str to a float32 Tensor"):
        t[0] = "a"
    with pytest.raises(TypeError, match="can't assign None"):
        t[0] = None
    with pytest.raises(RuntimeError, match="shape"):
        t[0] = fx.ones(2, 3)
    with pytest.raises(TypeError, match="deleting"):
        del t[0]
