"""Numbers that a dtype cannot hold, and integers at the ends of their range."""

import math

import pytest

import fluxion as fx

INTEGERS = [fx.uint8, fx.int8, fx.int16, fx.int32, fx.int64]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_floats_that_integers_cannot_hold(dtype, value):
    calls = [
        lambda: fx.full((2,), value, dtype=dtype),
        lambda: fx.full_like(fx.zeros(2, dtype=dtype), value),
        lambda: fx.zeros(2, dtype=dtype).new_full((2,), value),
        lambda: fx.zeros(2, dtype=dtype).fill_(value),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=f"does not fit {dtype}".replace("fluxion.", "")):
            call()


@pytest.mark.torch
@pytest.mark.parametrize(
    "name", ["uint8", "int8", "int32", "int64", "bool", "float16", "bfloat16", "float32"]
)
def test_what_fits_is_what_pytorch_takes(torch, name):
    for value in (
        0,
        -1,
        1.7,
        -1.5,
        127,
        128,
        255,
        256,
        300,
        -300,
        2**31,
        65504,
        65520,
        1e39,
        2**63 - 1,
        math.nan,
    ):
        outcomes = []
        for T in (fx, torch):
            try:
                t = T.full((2,), value, dtype=getattr(T, name))
                u = T.zeros(2, dtype=getattr(T, name)).fill_(value)
                outcomes.append(repr((t.tolist(), u.tolist())))
            except RuntimeError:
                outcomes.append("raises")
        assert outcomes[0] == outcomes[1], value


@pytest.mark.torch
def test_ranges_of_randint_are_those_of_pytorch(torch):
    cases = [
        ("uint8", 0, 256),
        ("uint8", 0, 257),
        ("uint8", -1, 4),
        ("int8", -128, 128),
        ("int8", 0, 129),
    ]
    cases += [("bool", 0, 2), ("bool", 0, 3), ("int32", 0, 2**31), ("int32", 0, 2**31 + 1)]
    cases += [
        ("float16", 0, 65505),
        ("float16", 0, 70000),
        ("float32", 0, 2**24),
        ("int16", -(2**15) - 1, 0),
    ]
    for name, low, high in cases:
        for draw in (
            lambda T, dtype: T.randint(low, high, (2,), dtype=dtype),
            lambda T, dtype: T.randint_like(T.zeros(2, dtype=dtype), low, high),
            lambda T, dtype: T.zeros(2, dtype=dtype).random_(low, high),
        ):
            outcomes = []
            for T in (fx, torch):
                try:
                    outcomes.append(tuple(draw(T, getattr(T, name)).shape))
                except RuntimeError:
                    outcomes.append("raises")
            assert outcomes[0] == outcomes[1], (name, low, high)


def test_arange():
    for step in (0, math.nan):
        with pytest.raises(RuntimeError, match="arange: step must not be (0|NaN)"):
            fx.arange(0, 1, step)
    assert fx.arange(0.0, 1.0, math.inf).shape == (0,)  # as PyTorch counts
    for args in [
        (2**62,),
        (-(2**63), 2**63 - 1),
        (0.0, 1e300),
        (-1e308, 1e308, 1e-10),
        (0, 2**63 - 1, 2),
    ]:
        with pytest.raises((RuntimeError, MemoryError)):
            fx.arange(*args)


@pytest.mark.parametrize("ignored", [2**60 + 1, -(2**63), 2**63 - 1, 2, -1])
def test_ignore_index_of_any_size(ignored):
    F = fx.nn.functional
    x = fx.randn(4, 5, dtype=fx.float64)
    target = fx.tensor([ignored, 1, 4, ignored])
    for loss in (F.cross_entropy, lambda a, t, **k: F.nll_loss(fx.log_softmax(a, 1), t, **k)):
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        loss(a, target, ignore_index=ignored).backward()
        loss(b[1:3], target[1:3]).backward()
        assert fx.allclose(a.grad, b.grad) and target[0].item() == ignored


def test_planes_that_max_pooling_cannot_number():
    with pytest.raises(NotImplementedError, match="2\\^31"):
        fx.nn.functional.max_pool2d(fx.zeros(1).expand(1, 1, 65536, 32768), 2)


def test_named_paddings():
    x, w = fx.randn(2, 3, 5, 6), fx.randn(4, 3, 2, 3)
    same = fx.conv2d(x, w, padding="same")
    assert same.shape == (2, 4, 5, 6)
    wider = fx.nn.functional.pad(x, (1, 1, 0, 1))
    assert fx.equal(same, fx.conv2d(wider, w))
    assert fx.equal(fx.conv2d(x, w, None, 1, "valid"), fx.conv2d(x, w))
    assert fx.conv1d(x[:, :, 0], w[:, :, 0], padding="same", dilation=2).shape == (2, 4, 6)
    with pytest.raises(ValueError, match="needs stride 1"):
        fx.conv2d(x, w, None, 2, "same")
    with pytest.raises(ValueError, match="'same', 'valid'"):
        fx.conv2d(x, w, padding="full")


def test_lists_that_would_fill_the_memory():
    for call in (
        lambda: fx.zeros(0).chunk(2**62),
        lambda: fx.zeros(3).tensor_split(2**40),
        lambda: fx.zeros(2**40, 0).unbind(0),
        lambda: fx.zeros(2**40, 0).split(1),
    ):
        with pytest.raises(RuntimeError, match="views are more than a list may hold"):
            call()
    assert len(fx.zeros(3).chunk(2**63 - 1)) == 3 and len(fx.zeros(3).split(2**63 - 1)) == 1
