"""Fused composites against float64 formulas and PyTorch: values, gradients, second gradients, bits."""

import numpy as np
import pytest

import fluxion as fx
from checks import assert_gradient, assert_same, bits
from fluxion import _C

# --- what is compared ---------------------------------------------------------------------------


def compare(torch, ours, theirs, arrays, dtype="float32", tolerance=None, outputs=1):
    """Values and gradients of ours(*tensors) and theirs(*tensors) for the same NumPy inputs."""
    tolerance = tolerance or {"float32": 2e-5, "float64": 1e-11, "bfloat16": 2e-2}[dtype]
    x, y = [], []
    for a in arrays:
        floating = a is not None and a.dtype.kind == "f"
        x.append(
            None if a is None else fx.tensor(a).to(getattr(fx, dtype)) if floating else fx.tensor(a)
        )
        y.append(
            None
            if a is None
            else torch.tensor(a).to(getattr(torch, dtype))
            if floating
            else torch.tensor(a)
        )
        if floating:
            x[-1].requires_grad_()
            y[-1].requires_grad_()
    got, want = ours(*x), theirs(*y)
    weights = (
        np.linspace(0.5, 1.5, max(want.numel(), 1)).reshape(tuple(want.shape)).astype("float32")
    )
    (got * fx.tensor(weights).to(got.dtype)).sum().backward()
    (want * torch.tensor(weights).to(want.dtype)).sum().backward()

    def close(a, b):
        np.testing.assert_allclose(
            a.detach().to(fx.float64).numpy(),
            b.detach().to(torch.float64).numpy(),
            rtol=tolerance,
            atol=tolerance,
        )

    assert tuple(got.shape) == tuple(want.shape)
    assert str(got.dtype).rpartition(".")[2] == str(want.dtype).rpartition(".")[2]
    close(got, want)
    for a, b in zip(x, y):
        if b is not None and b.requires_grad and b.grad is not None:
            close(a.grad, b.grad)


def assert_second_gradient(f, x):
    assert_gradient(lambda t: ((f(t) + 0.5) ** 3).sum(), x, order=2, tolerance=2e-5)


def functional(torch):
    return torch.nn.functional


# --- activations --------------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": {}, "gelu": {}, "gelu-tanh": {"approximate": "tanh"}, "silu": {}, "mish": {}, "relu6": {}, "selu": {},
    "leaky_relu": {"negative_slope": 0.2}, "elu": {"alpha": 1.3}, "celu": {"alpha": 0.7}, "softplus": {"beta": 2, "threshold": 3},
    "logsigmoid": {}, "hardtanh": {"min_val": -0.7, "max_val": 1.1}, "hardsigmoid": {}, "hardswish": {}, "softsign": {},
    "tanhshrink": {}, "softshrink": {"lambd": 0.3}, "hardshrink": {"lambd": 0.3}, "threshold": {"threshold": 0.1, "value": 2.0},
    "glu": {"dim": 1}, "softmin": {"dim": -1},
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activations_equal_pytorch(torch, rng, case, dtype):
    name, options = case.partition("-")[0], ACTIVATIONS[case]
    x = rng.normal(size=(7, 26)) * 2
    compare(
        torch,
        lambda t: getattr(_C, name)(t, **options),
        lambda t: getattr(functional(torch), name)(t, **options),
        [x],
        dtype,
        1e-7
        if dtype == "float64" and name in ("celu", "hardsigmoid")
        else None,  # PyTorch's 1 / alpha is a float32
    )


@pytest.mark.torch
def test_prelu_equals_pytorch(torch, rng):
    x = rng.normal(size=(3, 4, 5))
    compare(torch, _C.prelu, functional(torch).prelu, [x, np.array([0.1, 0.2, 0.3, 0.4])])
    compare(torch, _C.prelu, functional(torch).prelu, [x, np.array([0.25])])


@pytest.mark.parametrize("case", [c for c in ACTIVATIONS if c not in ("glu", "softmin")])
def test_activations_have_second_gradients(rng, case):
    name, options = case.partition("-")[0], ACTIVATIONS[case]
    x = fx.tensor(rng.normal(size=9) * 2, dtype=fx.float64)
    assert_second_gradient(lambda t: getattr(_C, name)(t, **options), x)


def test_activations_at_the_extremes():
    x = fx.tensor([-np.inf, -100.0, -0.0, 0.0, 100.0, np.inf, np.nan])
    np.testing.assert_array_equal(_C.relu(x).numpy(), [0, 0, -0.0, 0, 100, np.inf, np.nan])
    np.testing.assert_allclose(
        _C.logsigmoid(x).numpy()[:6], [-np.inf, -100, -np.log(2), -np.log(2), 0, 0], atol=1e-7
    )
    np.testing.assert_allclose(
        _C.softplus(x).numpy()[:6], [0, 0, np.log(2), np.log(2), 100, np.inf], atol=1e-7
    )
    assert np.isnan(_C.gelu(x).numpy()[6]) and _C.gelu(x).numpy()[4] == 100


# --- softmax ------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_equals_pytorch(torch, rng, name, dim, dtype):
    x = rng.normal(size=(5, 33, 70)) * 3
    compare(
        torch,
        lambda t: getattr(_C, name)(t, dim),
        lambda t: getattr(functional(torch), name)(t, dim),
        [x],
        dtype,
        0.15
        if dtype == "bfloat16"
        else None,  # both gradients start from an output rounded to 8 bits
    )


@pytest.mark.torch
@pytest.mark.parametrize("dim", [0, 1, -1, (0, 2), (0, 1, 2), (1, 2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_logsumexp_equals_pytorch(torch, rng, dim, keepdim):
    x = rng.normal(size=(4, 5, 6)) * 3
    compare(
        torch,
        lambda t: _C.logsumexp(t, dim, keepdim),
        lambda t: torch.logsumexp(t, dim, keepdim),
        [x],
    )


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("dim", [0, 1])
def test_softmax_has_second_gradients(rng, name, dim):
    x = fx.tensor(rng.normal(size=(3, 4)), dtype=fx.float64)
    assert_second_gradient(lambda t: getattr(_C, name)(t, dim), x)


def test_softmax_of_infinities():
    x = fx.tensor([[0.0, -np.inf], [-np.inf, -np.inf], [np.inf, 0.0]])
    np.testing.assert_array_equal(
        _C.softmax(x, -1).numpy(), [[1, 0], [np.nan, np.nan], [np.nan, np.nan]]
    )
    np.testing.assert_array_equal(_C.logsumexp(x, -1).numpy(), [0, -np.inf, np.inf])


@pytest.mark.parametrize("size", [1, 7, 31, 32, 33, 1000, 4096, 5000])
def test_a_row_alone_equals_the_row_in_a_batch(rng, size, threads):
    x = fx.tensor(rng.normal(size=(40, size)).astype("float32"))
    w = fx.tensor(rng.normal(size=size).astype("float32"))
    for f in (
        lambda t: _C.softmax(t, -1),
        lambda t: _C.log_softmax(t, -1),
        lambda t: _C.layer_norm(t, (size,), w, w),
        lambda t: _C.rms_norm(t, (size,), w),
        lambda t: _C.logsumexp(t, -1, True),
    ):
        whole = f(x)
        for row in (0, 17, 39):
            assert bits(whole[row]) == bits(f(x[row : row + 1])[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_bits_do_not_depend_on_threads(rng, dtype):
    x = fx.tensor(rng.normal(size=(64, 16, 40)).astype("float32")).to(getattr(fx, dtype))
    w = fx.ones(16, dtype=x.dtype)
    target = fx.tensor(rng.integers(0, 16, size=(64, 40)))

    def everything():
        t = x.detach().clone().requires_grad_()
        outs = [
            _C.softmax(t, 1), _C.softmax(t, 2), _C.layer_norm(t, (16, 40)), _C.batch_norm(t, None, None, w, w, True),
            _C.group_norm(t, 4, w, w), _C.cross_entropy(t, target), _C.mse_loss(t, x * 0.5), _C.gelu(t),
        ]  # fmt: skip
        (g,) = fx.autograd.grad(sum((o * o).sum() for o in outs), t)
        return [*outs, g]

    fx.set_num_threads(1)
    one = everything()
    fx.set_num_threads(2)
    for a, b in zip(one, everything()):
        assert bits(a) == bits(b)


# --- cross entropy and the other losses ---------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(7,), (9, 7), (4, 7, 5), (3, 7, 2, 4)])
def test_cross_entropy_equals_pytorch(torch, rng, shape, weighted, smoothing, reduction):
    classes = 7
    x = rng.normal(size=shape) * 3
    entries = shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = rng.integers(0, classes, size=entries)
    if len(shape) > 1:
        target[0] = -100
    weight = rng.uniform(0.5, 1.5, size=classes) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}
    w = None if weight is None else weight

    def ours(t):
        return _C.cross_entropy(
            t, fx.tensor(target), None if w is None else fx.tensor(w).to(t.dtype), **options
        )

    def theirs(t):
        weight = None if w is None else torch.tensor(w).to(t.dtype)
        return functional(torch).cross_entropy(t, torch.tensor(target), weight, **options)

    compare(torch, ours, theirs, [x])
    compare(torch, ours, theirs, [x], "float64")


@pytest.mark.torch
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(7,), (9, 7), (4, 7, 5)])
def test_cross_entropy_of_probabilities_equals_pytorch(torch, rng, shape, reduction):
    x = rng.normal(size=shape)
    target = rng.uniform(size=shape)
    target /= target.sum(1 if len(shape) > 1 else 0, keepdims=True)
    weight = rng.uniform(0.5, 1.5, size=7)
    for smoothing in (0.0, 0.2):
        compare(
            torch,
            lambda t, p: _C.cross_entropy(
                t, p, fx.tensor(weight).to(t.dtype), reduction=reduction, label_smoothing=smoothing
            ),
            lambda t, p: functional(torch).cross_entropy(
                t,
                p,
                torch.tensor(weight).to(t.dtype),
                reduction=reduction,
                label_smoothing=smoothing,
            ),
            [x, target],
        )


def test_cross_entropy_is_its_formula(rng):
    x, target = rng.normal(size=(6, 5)), rng.integers(0, 5, size=6)
    shifted = x - x.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    for integers in ("int64", "int32", "uint8"):
        loss = _C.cross_entropy(fx.tensor(x), fx.tensor(target.astype(integers)))
        np.testing.assert_allclose(loss.item(), -log_p[np.arange(6), target].mean(), rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"reduction": "sum"}])
def test_cross_entropy_has_second_gradients(rng, options):
    target = fx.tensor([1, 2, -100])
    x = fx.tensor(rng.normal(size=(3, 4)), dtype=fx.float64)
    assert_second_gradient(lambda t: _C.cross_entropy(t, target, **options), x)
    p = fx.tensor(rng.dirichlet(np.ones(4), size=3), dtype=fx.float64)
    assert_second_gradient(lambda t: _C.cross_entropy(t, p, **options), x)


def test_cross_entropy_where_nothing_counts():
    x = fx.zeros(3, 4, requires_grad=True)
    loss = _C.cross_entropy(x, fx.full((3,), -100))
    loss.backward()
    assert np.isnan(loss.item()) and not x.grad.numpy().any()


LOSSES = {
    "mse_loss": {}, "l1_loss": {}, "smooth_l1_loss": {"beta": 0.5}, "huber_loss": {"delta": 0.7}, "binary_cross_entropy": {},
    "binary_cross_entropy_with_logits": {}, "kl_div": {"log_target": False},
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("size", [(5, 9), (3, 5000)])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_pytorch(torch, rng, name, size, reduction):
    x, target = rng.uniform(0.05, 0.95, size=size), rng.uniform(0.05, 0.95, size=size)
    options = {**LOSSES[name], "reduction": reduction}
    compare(
        torch,
        lambda a, b: getattr(_C, name)(a, b, **options),
        lambda a, b: getattr(functional(torch), name)(a, b, **options),
        [x, target],
        tolerance=1e-4,
    )


@pytest.mark.torch
def test_weighed_losses_equal_pytorch(torch, rng):
    x, target = rng.normal(size=(6, 5)), rng.uniform(size=(6, 5))
    w = rng.uniform(0.5, 2, size=5)
    F = functional(torch)
    compare(
        torch,
        lambda a, b: _C.binary_cross_entropy_with_logits(
            a, b, fx.tensor(w).to(a.dtype), pos_weight=fx.tensor(w).to(a.dtype)
        ),
        lambda a, b: F.binary_cross_entropy_with_logits(
            a, b, torch.tensor(w).to(a.dtype), pos_weight=torch.tensor(w).to(a.dtype)
        ),
        [x, target],
    )
    compare(
        torch,
        lambda a, b: _C.kl_div(a, b, reduction="batchmean", log_target=True),
        lambda a, b: F.kl_div(a, b, reduction="batchmean", log_target=True),
        [x, target],
    )
    classes = np.array([0, 4, 2, -100, 1, 1])
    for reduction in ("none", "mean", "sum"):
        compare(
            torch,
            lambda a: _C.nll_loss(
                a, fx.tensor(classes), fx.tensor(w).to(a.dtype), reduction=reduction
            ),
            lambda a: F.nll_loss(
                a, torch.tensor(classes), torch.tensor(w).to(a.dtype), reduction=reduction
            ),
            [x],
        )


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "l1_loss"])
def test_losses_have_second_gradients(rng, name):
    target = fx.tensor(rng.uniform(0.1, 0.9, size=7), dtype=fx.float64)
    x = fx.tensor(rng.uniform(0.1, 0.9, size=7), dtype=fx.float64)
    assert_second_gradient(lambda t: getattr(_C, name)(t, target, **LOSSES[name]), x)


# --- norms --------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(
    "shape, dims", [((6, 50), 1), ((3, 4, 5, 9), 2), ((300, 128), 1), ((7,), 1)]
)
def test_layer_norm_equals_pytorch(torch, rng, shape, dims, affine, dtype):
    x = rng.normal(size=shape) + 0.5
    w, b = (rng.normal(size=shape[-dims:]) if a else None for a in affine)
    tolerance = {"float32": 2e-4, "bfloat16": 0.2}.get(dtype)
    compare(
        torch,
        lambda t, w, b: _C.layer_norm(t, shape[-dims:], w, b),
        lambda t, w, b: functional(torch).layer_norm(t, shape[-dims:], w, b),
        [x, w, b],
        dtype,
        tolerance,
    )


@pytest.mark.torch
@pytest.mark.parametrize("weighted", [True, False])
def test_rms_norm_equals_pytorch(torch, rng, weighted):
    x, w = rng.normal(size=(5, 3, 40)), rng.normal(size=40) if weighted else None
    for eps in (None, 1e-3):
        compare(
            torch,
            lambda t, w: _C.rms_norm(t, (40,), w, eps),
            lambda t, w: functional(torch).rms_norm(t, (40,), w, eps),
            [x, w],
            tolerance=1e-4,
        )


@pytest.mark.torch
@pytest.mark.parametrize(
    "affine", [(True, True), (True, False), (False, False)]
)  # PyTorch fails on a bias alone
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (2, 6, 3, 7)])
def test_group_norm_equals_pytorch(torch, rng, shape, affine):
    w, b = (rng.normal(size=6) if a else None for a in affine)
    compare(
        torch,
        lambda t, w, b: _C.group_norm(t, 3, w, b),
        lambda t, w, b: functional(torch).group_norm(t, 3, w, b),
        [rng.normal(size=shape), w, b],
        tolerance=2e-4,
    )


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(9, 5), (4, 5, 6), (3, 5, 7, 11), (130, 5, 1)])
def test_batch_norm_equals_pytorch(torch, rng, shape, affine, training, dtype):
    mean, var = rng.normal(size=5).astype(dtype), rng.uniform(0.5, 1.5, size=5).astype(dtype)
    running = [fx.tensor(mean), fx.tensor(var)]
    theirs = [torch.tensor(mean), torch.tensor(var)]
    w, b = (rng.normal(size=5), rng.normal(size=5)) if affine else (None, None)
    compare(
        torch,
        lambda t, w, b: _C.batch_norm(t, *running, w, b, training, 0.3),
        lambda t, w, b: functional(torch).batch_norm(t, *theirs, w, b, training, 0.3),
        [rng.normal(size=shape) + 0.3, w, b],
        dtype,
        {"float32": 2e-4}.get(dtype),
    )
    for a, e in zip(running, theirs):
        np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=1e-5)


def test_group_norm_takes_a_bias_alone(rng):
    x, b = fx.tensor(rng.normal(size=(2, 6, 5))), fx.tensor(rng.normal(size=6)).requires_grad_()
    y = _C.group_norm(x, 3, None, b)
    np.testing.assert_allclose(
        y.detach().numpy(), (_C.group_norm(x, 3) + b.detach().view(6, 1)).numpy(), rtol=1e-12
    )
    y.sum().backward()
    np.testing.assert_allclose(b.grad.numpy(), 10.0)


def test_norms_have_second_gradients(rng):
    x = fx.tensor(rng.normal(size=(3, 4)), dtype=fx.float64)
    w = fx.tensor(rng.normal(size=4), dtype=fx.float64)
    mean, var = fx.zeros(4, dtype=fx.float64), fx.ones(4, dtype=fx.float64)
    for f in (
        lambda t: _C.layer_norm(t, (4,), w, w),
        lambda t: _C.layer_norm(x, (4,), t[0], w) * t,
        lambda t: _C.rms_norm(t, (4,), w, 1e-5),
        lambda t: _C.group_norm(t, 2, w, w),
        lambda t: _C.batch_norm(t, None, None, w, w, True),
        lambda t: _C.batch_norm(t.view(3, 2, 2), None, None, w[:2], None, True),
        lambda t: _C.batch_norm(t, mean, var, w, w, False),
    ):
        assert_second_gradient(f, x)


def test_batch_norm_keeps_running_values_in_place(rng):
    mean, var = fx.zeros(3), fx.ones(3)
    address = mean.data_ptr()
    x = fx.tensor(rng.normal(size=(8, 3, 5)).astype("float32"))
    _C.batch_norm(x, mean, var, training=True, momentum=0.25)
    assert mean.data_ptr() == address
    values = x.numpy().transpose(1, 0, 2).reshape(3, -1).astype("float64")
    np.testing.assert_allclose(mean.numpy(), 0.25 * values.mean(1), rtol=1e-5)
    np.testing.assert_allclose(var.numpy(), 0.75 + 0.25 * values.var(1, ddof=1), rtol=1e-5)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: _C.softmax(fx.ones(2, 3), 5), IndexError, "softmax"),
        (lambda: _C.softmax(fx.ones(2, 3, dtype=fx.int64), 1), RuntimeError, "floating point"),
        (lambda: _C.gelu(fx.ones(2), approximate="erf"), ValueError, "'none' or 'tanh', got 'erf'"),
        (lambda: _C.cross_entropy(fx.ones(4, 3), fx.tensor([0, 1, 3, 2])), IndexError, r"target 3 is out of range for 3 classes.*position 2"),
        (lambda: _C.cross_entropy(fx.ones(4, 3), fx.tensor([0, 1])), ValueError, r"class indices of shape \(4,\)"),
        (lambda: _C.cross_entropy(fx.ones(4, 3), fx.zeros(4, dtype=fx.int64), fx.ones(2)), RuntimeError, "one element per class"),
        (lambda: _C.cross_entropy(fx.ones(4, 3), fx.zeros(4, dtype=fx.int64), reduction="avg"), ValueError, "got 'avg'"),
        (lambda: _C.layer_norm(fx.ones(2, 3), (2,)), RuntimeError, r"must end with normalized_shape \(2,\)"),
        (lambda: _C.layer_norm(fx.ones(2, 3), (3,), fx.ones(2)), RuntimeError, r"weight must have normalized_shape"),
        (lambda: _C.batch_norm(fx.ones(1, 3), None, None, training=True), ValueError, "more than one value per channel"),
        (lambda: _C.batch_norm(fx.ones(4, 3), None, None), RuntimeError, "running_mean and running_var must be given"),
        (lambda: _C.batch_norm(fx.ones(4, 3), fx.ones(2), fx.ones(3)), RuntimeError, "running_mean must have one element per channel"),
        (lambda: _C.group_norm(fx.ones(2, 5), 2), RuntimeError, "divisible by num_groups 2"),
        (lambda: _C.dropout(fx.ones(3), 1.5), ValueError, "probability between 0 and 1, got 1.5"),
        (lambda: _C.embedding(fx.tensor([0, 7]), fx.ones(4, 2)), IndexError, "index 7 is out of range for a table of 4 rows"),
        (lambda: _C.multinomial(fx.tensor([0.0, 0.0]), 1), RuntimeError, "sum to 0"),
        (lambda: _C.randint(5, 5, (2,)), RuntimeError, "low 5 must be below high 5"),
        (lambda: fx.empty(3, dtype=fx.int64).normal_(), RuntimeError, "floating dtype"),
    ],
)  # fmt: skip
def test_errors_teach(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


# --- embedding ----------------------------------------------------------------------------------


@pytest.mark.torch
def test_embedding_equals_pytorch(torch, rng):
    index = rng.integers(0, 6, size=(3, 5))
    for options in ({}, {"padding_idx": 2}, {"scale_grad_by_freq": True}, {"padding_idx": -1}):
        compare(
            torch,
            lambda w: _C.embedding(fx.tensor(index), w, **options),
            lambda w: functional(torch).embedding(torch.tensor(index), w, **options),
            [rng.normal(size=(6, 9))],
        )


def test_embedding_adds_gradients_in_the_order_of_positions(rng, threads):
    index = rng.integers(0, 3, size=500)
    g = rng.normal(size=(500, 33)).astype("float32")
    w = fx.zeros(3, 33, requires_grad=True)
    _C.embedding(fx.tensor(index), w).backward(fx.tensor(g))
    want = np.zeros((3, 33), "float32")
    for k, row in enumerate(index):
        want[row] += g[k]
    assert bits(w.grad) == want.tobytes()


def test_embedding_has_second_gradients(rng):
    index = fx.tensor([[0, 2], [2, 1]])
    w = fx.tensor(rng.normal(size=(3, 2)), dtype=fx.float64)
    assert_second_gradient(lambda t: _C.embedding(index, t), w)


def test_embedding_limits_norms():
    w = fx.tensor([[3.0, 4.0], [0.3, 0.4]])
    y = _C.embedding(fx.tensor([0, 1, 0]), w, max_norm=1.0)
    np.testing.assert_allclose(y.numpy(), [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(w.numpy(), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)


def test_half_operands_round_once(rng):
    """A fused op on bfloat16 is the op on the same values in float32, rounded at the end."""
    x = fx.tensor(rng.normal(size=(5, 70)).astype("float32")).to(fx.bfloat16)
    w = fx.tensor(rng.normal(size=70).astype("float32")).to(fx.bfloat16)
    wide, wide_w = x.float(), w.float()
    assert_same(_C.softmax(x, -1), _C.softmax(wide, -1).to(fx.bfloat16))
    assert_same(_C.softmax(x, 0), _C.softmax(wide, 0).to(fx.bfloat16))
    assert_same(
        _C.layer_norm(x, (70,), w, w), _C.layer_norm(wide, (70,), wide_w, wide_w).to(fx.bfloat16)
    )
    assert_same(_C.gelu(x), _C.gelu(wide).to(fx.bfloat16))
    assert_same(_C.mse_loss(x, x * 2), _C.mse_loss(wide, (x * 2).float()).to(fx.bfloat16))


def test_gelu_is_exact_enough():
    """Within two of float32's steps at |x|, and exactly 0 and x far out."""
    x = np.linspace(-12, 12, 20_001).astype("float32")
    exact = _C.gelu(fx.tensor(x.astype("float64"))).numpy()
    got = _C.gelu(fx.tensor(x)).numpy()
    assert np.abs(got - exact).max() < 2e-7 * 6
    assert not got[x < -5.3].any() and (got[x > 5.3] == x[x > 5.3]).all()


@pytest.mark.parametrize("wanted", range(1, 8))
def test_norms_give_any_subset_of_their_gradients(rng, wanted):
    """What no gradient needs is not saved; what one needs is."""
    x, w, b = (fx.tensor(rng.normal(size=s)) for s in ((6, 4), 4, 4))
    for f in (
        lambda x, w, b: _C.layer_norm(x, (4,), w, b),
        lambda x, w, b: _C.rms_norm(x, (4,), w, 1e-5) + b,
        lambda x, w, b: _C.group_norm(x, 2, w, b),
        lambda x, w, b: _C.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: _C.batch_norm(x.view(2, 4, 3), None, None, w, b, True),
        lambda x, w, b: _C.batch_norm(x, w.detach(), w.detach() ** 2, w, b, False),
        lambda x, w, b: _C.cross_entropy(x, fx.tensor([0, 1, 2, 3, 0, 1]), w) * b,
    ):
        every = [t.detach().clone().requires_grad_() for t in (x, w, b)]
        (f(*every) ** 2).sum().backward()
        some = [
            t.detach().clone().requires_grad_(bool(wanted >> k & 1))
            for k, t in enumerate((x, w, b))
        ]
        (f(*some) ** 2).sum().backward()
        for k, (a, e) in enumerate(zip(some, every)):
            assert (a.grad is not None) == bool(wanted >> k & 1)
            if a.grad is not None:
                assert bits(a.grad) == bits(e.grad)


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 1000])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weight_gradients_are_sums_in_order(rng, rows, dtype, threads):
    """128 rows at a time, in order: the bits of the same sum over dim 0."""
    x = fx.tensor(rng.normal(size=(rows, 40)).astype("float32")).to(getattr(fx, dtype))
    w = fx.ones(40, dtype=x.dtype).requires_grad_()
    g = fx.tensor(rng.normal(size=(rows, 40)).astype("float32")).to(x.dtype)
    _C.layer_norm(x, (40,), None, w).backward(g)
    assert_same(w.grad, g.float().sum(0).to(x.dtype))
    v = fx.ones(40, dtype=x.dtype).requires_grad_()
    _C.rms_norm(x, (40,), v, 1e-5).backward(g)
    wide = x.float()
    normal = wide * (wide.square().sum(-1, True) / 40 + 1e-5).rsqrt()
    assert_same(v.grad, (g.float() * normal).sum(0).to(x.dtype))
