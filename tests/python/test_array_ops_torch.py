"""The same call in PyTorch and here: values, shapes, dtypes, aliasing and gradients of indexing, order and movement."""

import numpy as np
import pytest

import fluxion

pytestmark = pytest.mark.torch


def index(m, values):
    return m.tensor(values, dtype=m.int64)


# name: f(module, x, y) of two float64 (4, 5) tensors
CASES = {
    "x[i]": lambda m, x, y: x[index(m, [0, 2, 2])],
    "x[:, i]": lambda m, x, y: x[:, index(m, [[0, 4], [1, 1]])],
    "x[i, j]": lambda m, x, y: x[index(m, [[0], [1]]), index(m, [2, 3, 3])],
    "x[i, None, j]": lambda m, x, y: x[index(m, [0, 1]), None, index(m, [2, 3])],
    "x[..., i, :]": lambda m, x, y: x.reshape(2, 2, 5)[..., index(m, [1, 0]), :],
    "x[i, :, j]": lambda m, x, y: x.reshape(2, 2, 5)[index(m, [1, 0]), :, index(m, [4, 0])],
    "x[0, :, j]": lambda m, x, y: x.reshape(2, 2, 5)[0, :, index(m, [4, 0])],
    "x[mask]": lambda m, x, y: x[x > 0],
    "x[rows]": lambda m, x, y: x[m.tensor([True, False, True, True])],
    "x[rows, j]": lambda m, x, y: x[m.tensor([True, False, True, True]), index(m, [0, 1, 2])],
    "x[list]": lambda m, x, y: x[[0, 3], 1:],
    "x[True]": lambda m, x, y: x[True],
    "x[False, None]": lambda m, x, y: x[False, None],
    "index_select": lambda m, x, y: m.index_select(x, 1, index(m, [4, 0, 0])),
    "index_select 0-dim": lambda m, x, y: m.index_select(x[0, 0], 0, index(m, [0])),
    "gather": lambda m, x, y: m.gather(x, 1, index(m, [[0, 1], [4, 4]])),
    "gather 0-dim": lambda m, x, y: x[0].gather(0, index(m, 2)),
    "take": lambda m, x, y: m.take(x, index(m, [[0, -1], [7, 7]])),
    "take_along_dim": lambda m, x, y: m.take_along_dim(x, index(m, [[0, 1, 4]]), 1),
    "take_along_dim flat": lambda m, x, y: m.take_along_dim(x, index(m, [0, 19])),
    "scatter": lambda m, x, y: x.scatter(1, index(m, [[0, 4], [2, 1]]), y[:2, :2]),
    "scatter value": lambda m, x, y: x.scatter(0, index(m, [[0, 3]]), 2.5),
    "scatter add": lambda m, x, y: x.detach().scatter(0, index(m, [[0, 0, 1]]), 2.0, reduce="add"),
    "scatter_add": lambda m, x, y: x.scatter_add(1, index(m, [[0, 0, 1], [4, 4, 4]]), y[:2, :3]),
    "scatter_reduce sum": lambda m, x, y: x.scatter_reduce(
        0, index(m, [[0, 1], [0, 2]]), y[:2, :2], "sum", include_self=False
    ),
    "scatter_reduce prod": lambda m, x, y: x.scatter_reduce(0, index(m, [[0, 1], [0, 2]]), y[:2, :2], "prod"),
    "scatter_reduce mean": lambda m, x, y: x.scatter_reduce(0, index(m, [[0, 1], [0, 2]]), y[:2, :2], "mean"),
    "scatter_reduce amax": lambda m, x, y: x.scatter_reduce(
        0, index(m, [[0, 1], [0, 2]]), y[:2, :2], "amax", include_self=False
    ),
    "scatter_reduce amin": lambda m, x, y: x.scatter_reduce(0, index(m, [[0, 1], [0, 2]]), y[:2, :2], "amin"),
    "index_add": lambda m, x, y: m.index_add(x, 0, index(m, [0, 0, 2, 1]), y, alpha=3),
    "index_copy": lambda m, x, y: m.index_copy(x, 0, index(m, [3, 1]), y[:2]),
    "index_fill": lambda m, x, y: m.index_fill(x, 1, index(m, [3, 1]), 7),
    "index_reduce": lambda m, x, y: x.detach().index_reduce(
        0, index(m, [1, 1, 0, 2]), y.detach(), "mean", include_self=True
    ),
    "index_put": lambda m, x, y: x.index_put((index(m, [0, 3]),), y[0]),
    "index_put accumulate": lambda m, x, y: m.index_put(
        x, (index(m, [0, 0]), index(m, [1, 1])), y[0, :2], accumulate=True
    ),
    "masked_fill": lambda m, x, y: x.masked_fill(y > 0, -1.0),
    "masked_select": lambda m, x, y: m.masked_select(x, y > 0),
    "masked_scatter": lambda m, x, y: x.masked_scatter(y[0] > 0, y),
    "nonzero": lambda m, x, y: (x > 0).nonzero(),
    "nonzero tuple": lambda m, x, y: m.nonzero(x > 0, as_tuple=True),
    "where": lambda m, x, y: m.where(x > 0),
    "argwhere": lambda m, x, y: m.argwhere(x > 0),
    "count_nonzero": lambda m, x, y: m.count_nonzero(x > 0, dim=1),
    "sort": lambda m, x, y: m.sort(x, dim=0, descending=True),
    "argsort": lambda m, x, y: m.argsort(x, dim=1),
    "msort": lambda m, x, y: m.msort(x),
    "topk": lambda m, x, y: m.topk(x, 3, dim=1),
    "topk smallest": lambda m, x, y: x.topk(2, 0, largest=False),
    "kthvalue": lambda m, x, y: m.kthvalue(x, 2, dim=1, keepdim=True),
    "median": lambda m, x, y: m.median(x),
    "median dim": lambda m, x, y: x.median(1),
    "nanmedian": lambda m, x, y: m.nanmedian(x, dim=0),
    "unique": lambda m, x, y: m.unique((x * 2).detach().round(), return_inverse=True, return_counts=True),
    "unique dim": lambda m, x, y: m.unique((x > 0).long(), dim=1, return_inverse=True),
    "unique_consecutive": lambda m, x, y: m.unique_consecutive((x[0] > 0).long(), return_counts=True),
    "searchsorted": lambda m, x, y: m.searchsorted(x.detach().sort(1).values, y.detach(), side="right"),
    "bucketize": lambda m, x, y: m.bucketize(x.detach(), m.tensor([-1.0, 0.0, 1.0], dtype=m.float64)),
    "cumsum": lambda m, x, y: m.cumsum(x, 0),
    "cumsum bool": lambda m, x, y: (x > 0).cumsum(1),
    "cumprod": lambda m, x, y: x.cumprod(1),
    "cummax": lambda m, x, y: m.cummax(x, 1),
    "cummin": lambda m, x, y: m.cummin(x, 0),
    "diff": lambda m, x, y: m.diff(x, n=2, dim=0, append=y),
    "cat": lambda m, x, y: m.cat([x, y.float(), x], dim=-1),
    "stack": lambda m, x, y: m.stack((x, y), dim=1),
    "hstack": lambda m, x, y: m.hstack((x[0], y[1])),
    "vstack": lambda m, x, y: m.vstack((x[0], y[1])),
    "dstack": lambda m, x, y: m.dstack((x[0], y[1])),
    "column_stack": lambda m, x, y: m.column_stack((x[:, 0], y)),
    "split": lambda m, x, y: m.split(x, 3, dim=1),
    "split list": lambda m, x, y: x.split([1, 4], dim=1),
    "chunk": lambda m, x, y: x.chunk(3, 1),
    "tensor_split": lambda m, x, y: m.tensor_split(x, (1, 3), dim=1),
    "unbind": lambda m, x, y: x.unbind(1),
    "pad": lambda m, x, y: m.nn.functional.pad(x, (1, -1, 2, 0), value=2.0),
    "pad reflect": lambda m, x, y: m.nn.functional.pad(x, (1, 2), mode="reflect"),
    "pad replicate": lambda m, x, y: m.nn.functional.pad(x[None], (3, 2), mode="replicate"),
    "pad circular": lambda m, x, y: m.nn.functional.pad(x[None], (3, 2), mode="circular"),
    "flip": lambda m, x, y: x.flip(0, 1),
    "roll": lambda m, x, y: m.roll(x, shifts=(1, -2), dims=(0, 1)),
    "roll flat": lambda m, x, y: x.roll(3),
    "rot90": lambda m, x, y: m.rot90(x, 3, (0, 1)),
    "tile": lambda m, x, y: m.tile(x, (2, 1, 2)),
    "repeat": lambda m, x, y: x.repeat(2, 1, 3),
    "repeat_interleave": lambda m, x, y: x.repeat_interleave(2, dim=1),
    "repeat_interleave list": lambda m, x, y: m.repeat_interleave(x, index(m, [1, 0, 3, 2]), dim=0),
    "tril": lambda m, x, y: x.tril(-1),
    "triu": lambda m, x, y: m.triu(x, 1),
    "tril_indices": lambda m, x, y: m.tril_indices(4, 3, -1),
    "diagonal": lambda m, x, y: x.diagonal(1),
    "diag": lambda m, x, y: m.diag(x, -1),
    "diag vector": lambda m, x, y: m.diag(x[0], 2),
    "diag_embed": lambda m, x, y: m.diag_embed(x, 1, 0, 2),
    "diagflat": lambda m, x, y: m.diagflat(x[:2], -1),
    "trace": lambda m, x, y: m.trace(x),
    "eye": lambda m, x, y: m.eye(3, 4),
    "meshgrid": lambda m, x, y: m.meshgrid(x[0], y[1], indexing="xy"),
    "cartesian_prod": lambda m, x, y: m.cartesian_prod(x[0], y[1], x[2, :2]),
    "unfold": lambda m, x, y: x.unfold(1, 2, 2),
    "one_hot": lambda m, x, y: m.nn.functional.one_hot((x > 0).long(), 3),
}  # fmt: skip


def inputs(m, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((4, 5)) for _ in range(2)]
    return [m.tensor(a, dtype=m.float64, requires_grad=True) for a in arrays]


def listed(result):
    return [result] if hasattr(result, "dtype") else list(result)


@pytest.mark.parametrize("function", CASES.values(), ids=CASES.keys())
def test_as_in_pytorch(torch, function):
    sides = []
    for m in (torch, fluxion):
        x, y = inputs(m)
        results = listed(function(m, x, y))
        total = sum((r * r * 0.5 + r).sum() for r in results if r.requires_grad and r.numel())
        if hasattr(total, "backward"):
            total.backward()
        sides.append((results, x, y))
    (theirs, *their_inputs), (ours, *our_inputs) = sides
    for a, b in zip(ours, theirs, strict=True):
        assert tuple(a.shape) == tuple(b.shape)
        assert str(a.dtype).split(".")[-1] == str(b.dtype).split(".")[-1]
        assert a.requires_grad == b.requires_grad
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-14)
        its_view = any(b._base is t for t in their_inputs)
        assert (a._base is not None and any(a._base is t for t in our_inputs)) == its_view
    for a, b in zip(our_inputs, their_inputs):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12, atol=1e-14)


WRITES = {
    "x[i] = y": lambda m, x, y: x.__setitem__(index(m, [0, 2]), y[:2]),
    "x[i, j] = number": lambda m, x, y: x.__setitem__((index(m, [0, 2]), index(m, [1, 1])), 3),
    "x[mask] = y": lambda m, x, y: x.__setitem__(x > 0, 5.0),
    "x[mask] = list": lambda m, x, y: x.__setitem__(
        m.tensor([True, False, True, False]), y[:2] * 2
    ),
    "x[:, i] += y": lambda m, x, y: x.__setitem__((slice(None), [0, 1]), x[:, [0, 1]] + y[:, :2]),
    "view[i] = y": lambda m, x, y: x[1:].t().__setitem__(index(m, [4, 0]), y[0, :3]),
    "index_put_": lambda m, x, y: x.index_put_((index(m, [1, 1]),), y[:2], accumulate=True),
    "index_add_": lambda m, x, y: x.index_add_(1, index(m, [0, 0]), y[:, :2], alpha=-1),
    "index_copy_": lambda m, x, y: x.index_copy_(0, index(m, [2, 0]), y[:2]),
    "index_fill_": lambda m, x, y: x.index_fill_(0, index(m, [2, 0]), 4.0),
    "scatter_": lambda m, x, y: x.scatter_(1, index(m, [[0], [1], [2], [3]]), y[:, :1]),
    "scatter_ value": lambda m, x, y: x.scatter_(1, index(m, [[0], [1], [2], [3]]), 1.0),
    "scatter_add_": lambda m, x, y: x.scatter_add_(0, index(m, [[0, 0, 1, 1, 2]]), y[:1]),
    "scatter_reduce_": lambda m, x, y: x.scatter_reduce_(
        0, index(m, [[0, 0, 1, 1, 2]]), y[:1], "amax"
    ),
    "masked_fill_": lambda m, x, y: x.masked_fill_(y > 0, 0.0),
    "masked_scatter_": lambda m, x, y: x.masked_scatter_(y > 0, y),
    "cumsum_": lambda m, x, y: x.cumsum_(0),
    "tril_": lambda m, x, y: x.tril_(),
    "diagonal": lambda m, x, y: x.diagonal().mul_(y[0, :4]),
    "narrow": lambda m, x, y: x.narrow(0, 1, 2).select(1, 3).mul_(y[0, :2]),
}


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "plain"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_writes_as_in_pytorch(torch, write, recorded):
    sides = []
    for m in (torch, fluxion):
        x, y = inputs(m)
        z = x * 1 if recorded else x.detach().clone()
        write(m, z, y if recorded else y.detach())
        if recorded:
            (z * z).sum().backward()
        sides.append((z, x.grad, y.grad))
    for b, a in zip(*sides):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(
                a.detach().numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-14
            )
