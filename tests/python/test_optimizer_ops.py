"""The multi-tensor optimizer steps and gradient clipping against PyTorch and plain formulas."""

import numpy as np
import pytest

import fluxion as fx
from checks import bits
from fluxion import _C

SHAPES = [(16,), (3, 5), (), (130, 70), (1,), (40_000,)]


def parameters(rng, dtype="float32"):
    return [rng.normal(size=s).astype(dtype) for s in SHAPES]


SGD = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"momentum": 0.8, "dampening": 0.3, "maximize": True},
]


@pytest.mark.torch
@pytest.mark.parametrize("options", SGD, ids=str)
def test_sgd_equals_pytorch(torch, rng, options):
    start = parameters(rng)
    theirs = [torch.tensor(p, requires_grad=True) for p in start]
    optimizer = torch.optim.SGD(theirs, lr=0.05, **options)
    ours = [fx.tensor(p) for p in start]
    buffers = [fx.empty_like(p) for p in ours]
    for step in range(4):
        grads = parameters(rng)
        for p, g in zip(theirs, grads):
            p.grad = torch.tensor(g)
        optimizer.step()
        _C._fused_sgd_(
            ours, [fx.tensor(g) for g in grads], buffers, 0.05, options.get("momentum", 0), options.get("dampening", 0),
            options.get("weight_decay", 0), options.get("nesterov", False), options.get("maximize", False), step == 0,
        )  # fmt: skip
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=2e-5, atol=2e-6)


ADAM = [
    {},
    {"weight_decay": 0.1},
    {"amsgrad": True},
    {"amsgrad": True, "weight_decay": 0.1, "maximize": True},
    {"decoupled": True, "weight_decay": 0.1},
    {"decoupled": True, "weight_decay": 0.1, "amsgrad": True},
]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", ADAM, ids=str)
def test_adam_equals_pytorch(torch, rng, options, dtype):
    start = parameters(rng, dtype)
    decoupled = options.get("decoupled", False)
    theirs = [torch.tensor(p, requires_grad=True) for p in start]
    known = {k: v for k, v in options.items() if k != "decoupled"}
    optimizer = (torch.optim.AdamW if decoupled else torch.optim.Adam)(
        theirs, lr=0.01, **({"weight_decay": 0} | known)
    )
    ours = [fx.tensor(p) for p in start]
    states = [[fx.zeros_like(p) for p in ours] for _ in range(3)]
    steps = [fx.tensor(0.0) for _ in ours]
    for _ in range(5):
        grads = parameters(rng, dtype)
        for p, g in zip(theirs, grads):
            p.grad = torch.tensor(g)
        optimizer.step()
        amsgrad = options.get("amsgrad", False)
        _C._fused_adam_(
            ours, [fx.tensor(g) for g in grads], states[0], states[1], states[2] if amsgrad else [], steps, 0.01, 0.9, 0.999,
            1e-8, options.get("weight_decay", 0), amsgrad, options.get("maximize", False), decoupled,
        )  # fmt: skip
    assert [s.item() for s in steps] == [5.0] * len(ours)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(
            a.numpy(), b.detach().numpy(), rtol=1e-5 if dtype == "float32" else 1e-11, atol=1e-6
        )


def test_steps_work_on_any_memory(rng, threads):
    """Strided, half precision and large parameters step like dense ones, for any number of threads."""
    g = fx.tensor(rng.normal(size=(60, 700)).astype("float32"))
    dense, strided = fx.ones(60, 700), fx.ones(700, 60).t()
    buffers = [fx.zeros(60, 700), fx.zeros(60, 700)]
    for first in (True, False):
        _C._fused_sgd_([dense, strided], [g, g], buffers, 0.1, 0.9, 0, 0, False, False, first)
    assert bits(dense) == bits(strided.contiguous())
    half = fx.ones(60, 700, dtype=fx.bfloat16)
    _C._fused_sgd_([half], [g.to(fx.bfloat16)], [], 0.1, 0, 0, 0, False, False, False)
    want = (1 - 0.1 * g.to(fx.bfloat16).float()).to(fx.bfloat16)
    np.testing.assert_allclose(half.float().numpy(), want.float().numpy(), rtol=1e-2)


def test_views_of_a_parameter_see_the_step():
    p = fx.ones(4)
    view, saved = p.view(2, 2), p.clone()
    _C._fused_sgd_([p], [fx.ones(4)], [], 0.5, 0, 0, 0, False, False, False)
    assert view.tolist() == [[0.5, 0.5], [0.5, 0.5]] and saved.tolist() == [1, 1, 1, 1]


@pytest.mark.torch
@pytest.mark.parametrize("norm", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("most", [0.5, 1e6])
def test_clipping_equals_pytorch(torch, rng, norm, most):
    grads = parameters(rng)
    theirs = [torch.zeros(g.shape, requires_grad=True) for g in grads]
    for p, g in zip(theirs, grads):
        p.grad = torch.tensor(g)
    want = torch.nn.utils.clip_grad_norm_(theirs, most, norm)
    ours = [fx.tensor(g) for g in grads]
    got = _C._clip_grad_norm_(ours, most, norm)
    np.testing.assert_allclose(got.item(), want.item(), rtol=2e-5)
    for a, p in zip(ours, theirs):
        np.testing.assert_allclose(a.numpy(), p.grad.numpy(), rtol=2e-5, atol=1e-9)


def adam(p, lr, steps, options=(0.9, 0.999, 1e-8, 0.1, False, False, True)):
    grads, m, v = (
        [fx.ones_like(x) for x in p],
        [fx.zeros_like(x) for x in p],
        [fx.zeros_like(x) for x in p],
    )
    _C._fused_adam_(p, grads, m, v, [], steps, lr, *options)
    return bits(p[0])


def test_the_rate_may_be_a_tensor():
    """The same bits as a number, in any dtype that holds it; read when the step runs."""
    want = adam([fx.ones(9)], 0.375, [fx.tensor(4.0)])
    for rate in (fx.tensor(0.375), fx.tensor(0.375, dtype=fx.float64), fx.tensor([0.375])):
        assert adam([fx.ones(9)], rate, [fx.tensor(4.0)]) == want
    p = fx.ones(3)
    _C._fused_sgd_([p], [fx.ones(3)], [], fx.tensor(0.5), 0, 0, 0, False, False, False)
    assert p.tolist() == [0.5] * 3
    with pytest.raises(
        ValueError,
        match=r"adam_step: lr must be a number or a tensor of one element, got float32 \(2,\)",
    ):
        adam([fx.ones(9)], fx.ones(2), [fx.tensor(4.0)])
    with pytest.raises(
        ValueError, match=r"_fused_adam_: steps\[0\] must hold one number, got float32 \(0,\)"
    ):
        adam([fx.ones(9)], 0.5, [fx.ones(0)])


def test_a_step_refuses_memory_that_overlaps():
    with pytest.raises(RuntimeError, match="single memory location"):
        adam([fx.ones(1).expand(9)], 0.5, [fx.tensor(0.0)])


def test_more_parameters_than_one_op_takes(rng):
    many = [fx.ones(3) for _ in range(600)]
    steps = [fx.tensor(0.0) for _ in many]
    want = adam([fx.ones(3)], 0.5, [fx.tensor(0.0)])
    adam(many, 0.5, steps)
    assert {bits(p) for p in many} == {want} and {s.item() for s in steps} == {1.0}


def test_halves_clip_with_one_rounding():
    g = fx.tensor([3.0, 4.0], dtype=fx.bfloat16)
    norm = _C._clip_grad_norm_([g], 1.7)
    factor = 1.7 / (norm + 1e-6)
    assert norm.item() == 5 and norm.dtype == fx.bfloat16
    assert g.tolist() == (fx.tensor([3.0, 4.0]) * factor.float()).bfloat16().tolist()


def test_a_nonfinite_norm_is_refused_before_anything_is_scaled():
    p = fx.nn.Parameter(fx.ones(2))
    p.grad = fx.tensor([1.0, float("inf")])
    text = "the total norm of order 2.0 is inf; pass error_if_nonfinite=False"
    with pytest.raises(RuntimeError, match=text):
        fx.nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.tolist() == [1.0, float("inf")]
    with pytest.raises(RuntimeError, match=text):
        fx.nn.utils.get_total_norm([p.grad], error_if_nonfinite=True)
    assert fx.nn.utils.clip_grad_norm_([p], 1.0).item() == float("inf")


def test_lists_must_match():
    with pytest.raises(ValueError, match="grads must have as many tensors as params, 2, got 1"):
        _C._fused_sgd_(
            [fx.ones(2), fx.ones(2)], [fx.ones(2)], [], 0.1, 0, 0, 0, False, False, False
        )
    with pytest.raises(
        ValueError, match=r"grads\[0\] must have the shape of params\[0\], \(2,\), got \(3,\)"
    ):
        _C._fused_sgd_([fx.ones(2)], [fx.ones(3)], [], 0.1, 0, 0, 0, False, False, False)
