"""Random tensors, dropout and sampling: the generator's words, distributions, semantics."""

import numpy as np
import pytest

import fluxion as fx
from checks import bits
from fluxion import _C


def philox(key, call, block):
    """Philox4x32-10 in Python's integers (Salmon et al. 2011)."""
    m, c = 0xFFFFFFFF, [block & 0xFFFFFFFF, block >> 32, call & 0xFFFFFFFF, call >> 32]
    k0, k1 = key & m, key >> 32
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & m, (a >> 32) ^ c[3] ^ k1, a & m]
        k0, k1 = (k0 + 0x9E3779B9) & m, (k1 + 0xBB67AE85) & m
    return c


def words(key, call, n, stream=0):
    out = [w for block in range((n + 3) // 4) for w in philox(key, call, block + (stream << 60))]
    return np.array(out[:n], dtype=np.uint64)


@pytest.mark.parametrize("n", [1, 5, 33, 1024, 3000])
def test_uniform_numbers_are_the_generators_words(n, threads):
    seed = 2**40 + 12345
    fx.manual_seed(seed)
    for call in range(2):
        want = (words(seed, call, n) >> np.uint64(8)).astype("float64") * 2.0**-24
        np.testing.assert_array_equal(fx.rand(n).numpy(), want.astype("float32"))


def test_uniform_doubles_use_53_bits():
    fx.manual_seed(7)
    upper, lower = words(7, 0, 100) >> np.uint64(5), words(7, 0, 100, stream=1) >> np.uint64(6)
    want = upper.astype("float64") * 2.0**-27 + lower.astype("float64") * 2.0**-53
    np.testing.assert_array_equal(fx.rand(100, dtype=fx.float64).numpy(), want)


def test_normal_numbers_are_box_and_mullers():
    fx.manual_seed(3)
    near = (words(3, 0, 500) >> np.uint64(1)).astype("float64") + 1
    angle = (words(3, 0, 500, stream=1) >> np.uint64(8)).astype("float64") * 2.0**-24 * 2 * np.pi
    want = np.sqrt(-2 * np.log(near * 2.0**-31)) * np.cos(angle)
    np.testing.assert_allclose(fx.randn(500).numpy(), want, rtol=2e-4, atol=2e-6)


def test_integers_are_scaled_words():
    fx.manual_seed(5)
    want = (words(5, 0, 300) * np.uint64(10) >> np.uint64(32)).astype("int64") - 3
    np.testing.assert_array_equal(fx.randint(-3, 7, (300,)).numpy(), want)
    wide = fx.randint(0, 2**62, (1000,))
    assert (
        0 <= wide.min().item() and wide.max().item() < 2**62 and wide.double().mean().item() > 2**60
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_moments(dtype):
    dtype = getattr(fx, dtype)
    n = 200_000
    u, z = fx.rand(n, dtype=dtype).double(), fx.randn(n, dtype=dtype).double()
    assert 0 <= u.min().item() and u.max().item() < 1
    assert abs(u.mean().item() - 0.5) < 4e-3 and abs(u.var().item() - 1 / 12) < 2e-3
    assert abs(z.mean().item()) < 1e-2 and abs(z.var().item() - 1) < 1.5e-2
    assert abs((z**4).mean().item() - 3) < 0.1 and abs((z**3).mean().item()) < 0.05


def test_fills():
    x = fx.empty(1000, 50)
    address = x.data_ptr()
    assert x.uniform_(-2, 3) is x and x.data_ptr() == address
    assert -2 <= x.min().item() < -1.9 and 2.9 < x.max().item() < 3
    x.normal_(5, 0.5)
    assert abs(x.mean().item() - 5) < 0.02 and abs(x.std().item() - 0.5) < 0.02
    x.bernoulli_(0.25)
    assert set(x.view(-1).tolist()) == {0.0, 1.0} and abs(x.mean().item() - 0.25) < 0.02
    x.exponential_(2)
    assert x.min().item() >= 0 and abs(x.mean().item() - 0.5) < 0.02
    every_second = fx.zeros(10)[::2].normal_()
    assert (every_second != 0).all()
    i = fx.empty(1000, dtype=fx.int64).random_(3, 6)
    assert set(i.tolist()) == {3, 4, 5}


def test_fills_refuse_leaves_that_require_grad():
    with pytest.raises(RuntimeError, match="leaf"):
        fx.zeros(3, requires_grad=True).normal_()
    w = fx.zeros(3, requires_grad=True)
    with fx.no_grad():
        w.normal_()
    assert w.is_leaf and w.requires_grad


def test_generators_are_independent_and_repeatable():
    g = fx.Generator().manual_seed(9)
    a, b = fx.rand(4, generator=g), fx.rand(4, generator=g)
    g.manual_seed(9)
    assert fx.rand(4, generator=g).tolist() == a.tolist() != b.tolist()


def test_dropout():
    x = fx.linspace(1, 2, 100_000).requires_grad_()
    y = _C.dropout(x, 0.3)
    kept = (y != 0).numpy()
    assert abs(kept.mean() - 0.7) < 0.01
    np.testing.assert_allclose(y.detach().numpy()[kept], x.detach().numpy()[kept] / 0.7, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy() != 0, kept)
    np.testing.assert_allclose(x.grad.numpy()[kept], 1 / 0.7, rtol=1e-6)


def test_dropout_at_the_ends():
    x = fx.ones(50)
    assert _C.dropout(x, 0.5, False) is x
    assert _C.dropout(x, 0.0).tolist() == x.tolist()
    assert not _C.dropout(x, 1.0).any()


def test_dropout_does_not_depend_on_threads_or_layout():
    x = fx.linspace(1, 2, 64 * 300).view(64, 300)
    results = []
    for threads, value in ((1, x), (2, x), (2, x.t().contiguous().t())):
        fx.set_num_threads(threads)
        fx.manual_seed(1)
        results.append(bits(_C.dropout(value, 0.4)))
    assert results[0] == results[1] == results[2]


def test_feature_dropout_zeroes_channels():
    y = _C.feature_dropout(fx.ones(20, 30, 4), 0.5)
    per_channel = y.sum(-1)
    assert set(per_channel.view(-1).tolist()) == {0.0, 8.0}


def test_randperm():
    for n in (0, 1, 2, 1000):
        assert sorted(fx.randperm(n).tolist()) == list(range(n))
    fx.manual_seed(0)
    first = [fx.randperm(4).tolist().index(0) for _ in range(4000)]
    assert np.abs(np.bincount(first) / 4000 - 0.25).max() < 0.03


def test_multinomial():
    p = fx.tensor([[0.1, 0.0, 0.6, 0.3], [1.0, 1.0, 0.0, 2.0]])
    draws = fx.multinomial(p, 20_000, replacement=True).numpy()
    for row, weights in zip(draws, p.numpy()):
        np.testing.assert_allclose(
            np.bincount(row, minlength=4) / 20_000, weights / weights.sum(), atol=0.015
        )
    for row in fx.multinomial(fx.ones(50, 6), 6).numpy():
        assert sorted(row) == list(range(6))
    with pytest.raises(RuntimeError, match="without replacement"):
        fx.multinomial(p, 4)
