"""inference_mode(): what is made inside is marked, is never saved for backward, and is written only inside."""

import pytest

import fluxion as fx


@pytest.fixture
def made():
    with fx.inference_mode():
        return fx.ones(3)


def leaf(*values):
    return fx.tensor(values, requires_grad=True)


def test_what_is_made_inside_is_marked():
    b, x = fx.ones(3), leaf(1.0)
    assert not b.is_inference() and not fx.is_inference(b)
    with fx.inference_mode():
        a = fx.ones(3)
        assert a.is_inference() and fx.is_inference(a)
        assert (b * 2).is_inference() and b.double().is_inference() and (x * 2).is_inference()
        assert a[1:].is_inference() and a.detach().is_inference()
        assert not b[1:].is_inference() and not b.detach().is_inference(), "views of normal tensors"
        assert not b.add_(1).is_inference() and not b.to(fx.float32).is_inference()
        assert not (x * 2).requires_grad
        with fx.inference_mode(False):
            assert not fx.ones(3).is_inference()
    with fx.no_grad():
        assert not fx.ones(3).is_inference()


def test_outside(made):
    assert made[1:].is_inference() and made.detach().is_inference() and made.data.is_inference()
    assert not (made * 2).is_inference() and not made.clone().is_inference()
    w = leaf(1.0, 2.0, 3.0)
    (made + w).sum().backward()
    assert w.grad.tolist() == [1, 1, 1], "addition saves no values"
    fx.zeros(3).copy_(made)
    with fx.inference_mode():
        made.add_(1)
    assert made.tolist() == [2, 2, 2]


class Scale(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x, s):
        ctx.save_for_backward(s)
        return x * s

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


@pytest.mark.parametrize(
    "use", [lambda a, w: a * w, lambda a, w: w @ a, lambda a, w: Scale.apply(w, a)]
)
def test_inference_tensors_are_not_saved(made, use):
    w = leaf(1.0, 2.0, 3.0)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward.*clone"):
        use(made, w)
    use(made.clone(), w).sum().backward()
    assert w.grad.tolist() == [1, 1, 1]
    with fx.no_grad():
        assert not use(made, w).requires_grad


@pytest.mark.parametrize(
    "write",
    [
        lambda a: a.add_(1),
        lambda a: a.zero_(),
        lambda a: a[1:].mul_(2),
        lambda a: a.copy_(fx.zeros(3)),
        lambda a: a.__setitem__(0, 1),
        lambda a: fx.add(fx.ones(3), 1, out=a),
        lambda a: a.masked_fill_(a > 0, 2),
        lambda a: a.uniform_(),
    ],
)
@pytest.mark.parametrize("grad", [True, False])
def test_inference_tensors_are_written_only_inside(made, write, grad):
    with (
        fx.set_grad_enabled(grad),
        pytest.raises(
            RuntimeError, match="Inplace update to inference tensor outside InferenceMode"
        ),
    ):
        write(made)
    assert made.tolist() == [1, 1, 1]
    with fx.inference_mode():
        write(made)


def test_other_limits(made):
    with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor"):
        made.requires_grad_()
    with pytest.raises(RuntimeError, match="do not track version counter"):
        made._version  # noqa: B018
    made.requires_grad_(False)
    with fx.inference_mode():
        assert fx.ones(1, requires_grad=True).requires_grad
