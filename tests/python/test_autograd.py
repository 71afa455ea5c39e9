"""backward() and grad(): accumulation, hooks, modes, higher orders, custom functions, writes, long chains, misuse."""

import gc
import math
import threading

import numpy as np
import pytest

import fluxion as fx
from checks import assert_gradient, assert_same, bits, exact, numeric_gradient

grad = fx.autograd.grad


def leaf(*values):
    return fx.tensor(values, requires_grad=True)


def leaf64(shape, seed=0, low=-1.0, high=1.0):
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return fx.from_numpy(np.asarray(values)).requires_grad_()


# --- backward and grad


def test_backward_fills_leaves():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    z = (x * y).sum()
    assert (
        x.is_leaf
        and not z.is_leaf
        and z.requires_grad
        and z.grad_fn is not None
        and x.grad_fn is None
    )
    assert z.backward() is None
    assert x.grad.tolist() == [3, 4] and y.grad.tolist() == [1, 2]
    assert not x.grad.requires_grad and x.grad.is_leaf


def test_accumulation_and_identity():
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    g, pointer = x.grad, x.grad.data_ptr()
    (x * 3).sum().backward()
    assert x.grad is g and g.data_ptr() == pointer and g.tolist() == [5, 5]
    x.grad = None
    assert x.grad is None and g.tolist() == [5, 5]
    (x * 4).sum().backward()
    assert x.grad.tolist() == [4, 4] and x.grad is not g
    x.grad.zero_()
    (x * x).sum().backward()
    assert x.grad.tolist() == [2, 4]
    mine = fx.ones(2)
    x.grad = mine
    x.sum().backward()
    assert x.grad is mine and mine.tolist() == [2, 2]


def test_gradients_own_their_memory():
    """What backward() leaves in .grad is never a view of a seed, of another .grad or of an expanded tensor."""
    for create_graph in (False, True):
        a, b, c = leaf(1.0, 2.0), leaf(1.0, 2.0), leaf(1.0, 2.0)
        seed = fx.ones(2)
        (a + b).backward(seed, create_graph=create_graph)
        c.sum().backward(create_graph=create_graph)
        with fx.no_grad():
            for t in (a, b, c):
                t.grad.mul_(7)
        assert a.grad.tolist() == b.grad.tolist() == c.grad.tolist() == [
            7,
            7,
        ] and seed.tolist() == [1, 1]


def test_use_in_several_places():
    x = leaf(3.0)
    y = x * x
    (y + y * x + x).backward()
    assert x.grad.tolist() == [2 * 3 + 3 * 9 + 1]


def test_grad_leaves_dot_grad_alone():
    x, y = leaf(2.0), leaf(5.0)
    (g,) = grad(x * y, x)
    assert g.tolist() == [5] and x.grad is None and y.grad is None
    h = x * 2
    z = (h * h).sum()
    gx, gh = grad(z, [x, h])
    assert gx.tolist() == [16] and gh.tolist() == [8]
    z = x * 3
    assert [t.tolist() for t in grad(z, [z, x])] == [[1], [3]]


def test_grad_runs_only_what_it_needs():
    """grad() with respect to an intermediate tensor leaves the graph below it usable."""
    x = leaf(2.0)
    h = x * x
    z = h * h
    assert grad(z, h)[0].tolist() == [8]
    h.backward()
    assert x.grad.tolist() == [4]


def test_grad_outputs():
    x = leaf(1.0, 2.0)
    assert grad(x * 3, x, fx.tensor([1.0, 10.0]))[0].tolist() == [3, 30]
    assert grad([x * 3, x.sum()], x, [fx.ones(2), None])[0].tolist() == [4, 4]
    y = x * 3
    y.backward(fx.tensor([1.0, 2.0]))
    assert x.grad.tolist() == [3, 6]
    fx.autograd.backward([x.sum(), (x * x).sum()])
    assert x.grad.tolist() == [6, 11]
    x.grad = None
    x.sum().backward(fx.tensor(2.0, dtype=fx.float64))
    assert x.grad.dtype == fx.float32 and x.grad.tolist() == [2, 2]


def test_allow_unused():
    x, y = leaf(1.0), leaf(1.0)
    with pytest.raises(RuntimeError, match="allow_unused"):
        grad(x * 2, [x, y])
    gx, gy = grad(x * 2, [x, y], allow_unused=True)
    assert gx.tolist() == [2] and gy is None
    assert grad(x * 2, [x, y], materialize_grads=True)[1].tolist() == [0]


def test_backward_inputs():
    x, y = leaf(1.0), leaf(1.0)
    h = x * 3
    (h * y).backward(inputs=[y])
    assert x.grad is None and y.grad.tolist() == [3]
    (h * y).backward(inputs=[x, h])
    assert x.grad.tolist() == [3] and h.grad.tolist() == [1] and y.grad.tolist() == [3]


def test_retain_graph():
    x = leaf(2.0)
    y = (x * x).exp()
    y.backward(retain_graph=True)
    first = x.grad.clone()
    y.backward()
    assert x.grad.tolist() == (2 * first).tolist()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    z = x + 2  # saves no value: nothing to free
    z.backward()
    z.backward()


def test_freed_graph_releases_memory():
    x = fx.ones(1 << 20, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    before = fx._C._snapshot_bytes_copied()
    with fx.no_grad():
        x.add_(1)
    assert fx._C._snapshot_bytes_copied() == before, "nobody needs the old bytes any more"


def test_broadcast_gradients_have_the_operand_shape():
    x, y = leaf64((3, 1)), leaf64((1, 4), 1)
    z = leaf64((), 2)
    (x * y + z).sum().backward()
    assert x.grad.shape == (3, 1) and y.grad.shape == (1, 4) and z.grad.item() == 12
    np.testing.assert_allclose(x.grad.numpy(), np.full((3, 1), exact(y).sum()))
    a, b = leaf(1.0, 2.0), fx.ones(2, dtype=fx.float64, requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.dtype == fx.float32 and b.grad.dtype == fx.float64


def test_mixed_with_integers_and_constants():
    x = leaf(1.0, 2.0)
    i = fx.tensor([3, 4])
    (x * i + 1).sum().backward()
    assert x.grad.tolist() == [3, 4]
    assert not (x > 1).requires_grad and not x.argmax().requires_grad
    assert x.max(0).values.requires_grad and not x.max(0).indices.requires_grad


# --- higher orders


@pytest.mark.parametrize(
    "f, low, high",
    [
        (lambda x: (x * x * x).sum(), -1, 1),
        (lambda x: (x.exp() * x.sin()).sum(), -1, 1),
        (lambda x: (x.tanh() / (x * x + 1)).sum(), -1, 1),
        (lambda x: x.sigmoid().log().sum(), -1, 1),
        (lambda x: (x**4 + x**2.5).sum(), 0.5, 1.5),
        (lambda x: (x.sqrt() * x.rsqrt().cos()).sum(), 0.5, 1.5),
        (lambda x: x.log1p().expm1().atan().sum(), 0.5, 1.5),
        (lambda x: (x.view(-1)[1:] * x.view(-1)[:-1]).sum() ** 2, -1, 1),
        (lambda x: (x.t() * x.t().sum(0, keepdim=True)).mean() * x.var(), -1, 1),
        (lambda x: (x.erf() + x.sinh() * x.cosh()).sum(), -1, 1),
        (lambda x: x.norm() * x.std(0).sum(), 0.5, 1.5),
        (lambda x: fx.where(x > 0, x * x * x, x.exp()).sum(), -1, 1),
        (lambda x: (x.maximum(x * 0.5) * x.clamp(-0.8, 0.8)).sum() * x.prod(), 0.2, 0.7),
    ],
)
def test_three_derivatives(f, low, high):
    assert_gradient(f, leaf64((2, 3), 5, low, high), order=3)


def test_create_graph_accumulates_a_differentiable_gradient():
    x = leaf(3.0)
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad and x.grad.tolist() == [27]
    penalty = (x.grad**2).sum()
    x.grad = None
    penalty.backward()
    assert x.grad.tolist() == [2 * 27 * 18]


def test_gradient_penalty_by_hand():
    x, w = leaf64((4,), 1), leaf64((4,), 2)
    (g,) = grad((x * w).tanh().sum(), x, create_graph=True)
    g.pow(2).sum().backward()

    def penalty(at):
        with fx.enable_grad():
            z = x.detach().requires_grad_()
            (g,) = grad((z * at).tanh().sum(), z)
        return g.pow(2).sum()

    np.testing.assert_allclose(w.grad.numpy(), numeric_gradient(penalty, w), rtol=1e-7, atol=1e-9)


def test_second_backward_through_an_unused_path():
    x = leaf(1.0, 2.0)
    (g,) = grad((x * 5).sum(), x, create_graph=True)
    assert not g.requires_grad or grad(g.sum(), x, allow_unused=True)[0] in (None,)
    y = leaf(2.0)
    (g,) = grad(y**2, y, create_graph=True)
    (h,) = grad(g, y, create_graph=True)
    assert g.tolist() == [4] and h.tolist() == [2]


# --- order of accumulation


def test_contributions_are_added_newest_consumer_first():
    """Design rule 9: descending sequence number of the consumers, in the bits."""
    big, small = np.float32(1e8), np.float32(1.0)
    for factors in ([big, small, -big], [small, big, -big], [big, -big, small]):
        x = fx.tensor([1.0], requires_grad=True)
        fx.cat([x * float(f) for f in factors]).sum().backward()
        want = np.float32(0)
        for f in reversed(factors):
            want = np.float32(want + f)
        assert x.grad.item() == want


def test_sum_of_uses_is_deterministic(threads):
    def run():
        x = leaf64((257, 65), 3).float().detach().requires_grad_()
        y = x
        for k in range(6):
            y = (y * x).sin() + x.cos() * k
        y.mean(0).sum().backward()
        return bits(x.grad)

    assert run() == run()


# --- modes


def test_no_grad_and_enable_grad():
    x = leaf(1.0)
    with fx.no_grad():
        assert not fx.is_grad_enabled()
        assert not (x * 2).requires_grad
        with fx.enable_grad():
            assert (x * 2).requires_grad
        assert fx.ones(1, requires_grad=True).requires_grad
    assert fx.is_grad_enabled() and (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), fx.no_grad():
        1 / 0
    assert fx.is_grad_enabled()


def test_set_grad_enabled():
    x = leaf(1.0)
    with fx.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert fx.is_grad_enabled()
    fx.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    fx.set_grad_enabled(True)
    assert (x * 2).requires_grad


def test_inference_mode():
    x = leaf(1.0)
    with fx.inference_mode():
        assert fx.is_inference_mode_enabled() and not (x * 2).requires_grad
        with fx.inference_mode(False):
            assert not fx.is_inference_mode_enabled()
    assert not fx.is_inference_mode_enabled() and (x * 2).requires_grad


@pytest.mark.parametrize("mode", [fx.no_grad, fx.inference_mode, fx.enable_grad])
def test_modes_decorate(mode):
    enabled = mode is fx.enable_grad

    @mode()
    def called(x):
        """Doc."""
        return x * 2

    @mode
    def bare(x):
        return x * 2

    @mode()
    def generated(x):
        yield x * 2
        yield x * 3

    x = leaf(1.0)
    with fx.set_grad_enabled(not enabled):
        assert called(x).requires_grad == bare(x).requires_grad == enabled
        assert called.__name__ == "called" and called.__doc__ == "Doc."
        for y in generated(x):
            assert y.requires_grad == enabled
            assert fx.is_grad_enabled() != enabled, "between the steps the caller's mode holds"


def test_modes_belong_to_the_thread():
    seen = []
    with fx.no_grad():
        t = threading.Thread(target=lambda: seen.append(fx.is_grad_enabled()))
        t.start()
        t.join()
    assert seen == [True]


def test_detach_and_requires_grad():
    x = leaf(1.0, 2.0)
    y = x.detach()
    assert not y.requires_grad and y.data_ptr() == x.data_ptr()
    z = (x * 2).detach_()
    assert not z.requires_grad and z.is_leaf
    z.requires_grad_()
    (z * 3).sum().backward()
    assert z.grad.tolist() == [3, 3] and x.grad is None
    z.requires_grad = False
    assert not (z * 1).requires_grad


# --- hooks


def test_hooks_see_and_replace_gradients():
    x = leaf(1.0, 2.0)
    seen = []
    y = x * 3
    a = y.register_hook(lambda g: seen.append(("y", g.tolist())))
    b = x.register_hook(lambda g: seen.append(("x", g.tolist())) or g * 10)
    y.sum().backward()
    assert seen == [("y", [1, 1]), ("x", [3, 3])] and x.grad.tolist() == [30, 30]
    a.remove()
    a.remove()
    with b:
        pass
    seen.clear()
    (x * 3).sum().backward()
    assert seen == [] and x.grad.tolist() == [33, 33]


def test_hooks_run_in_order_on_the_whole_gradient():
    x = leaf(1.0)
    y = x * 1
    y.register_hook(lambda g: g + 1)
    y.register_hook(lambda g: g * 10)
    (y * 2 + y * 3).sum().backward()
    assert x.grad.tolist() == [60]


def test_leaf_hooks_run_under_grad_too():
    x = leaf(1.0)
    x.register_hook(lambda g: g * 5)
    assert grad(x * 2, x)[0].tolist() == [10] and x.grad is None


def test_hook_that_raises_leaves_the_graph_usable():
    x = leaf(1.0)
    y = x * x

    def refuse(g):
        raise ValueError("no")

    handle = y.register_hook(refuse)
    with pytest.raises(ValueError, match="no"):
        (y * 2).sum().backward(retain_graph=True)
    handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [2]


def test_hook_result_must_be_a_tensor():
    x = leaf(1.0)
    x.register_hook(lambda g: "nonsense")
    with pytest.raises(TypeError, match="hook must return a Tensor or None"):
        (x * 2).backward()


def test_retain_grad():
    x = leaf(1.0, 2.0)
    y = x * 3
    y.retain_grad()
    assert y.retains_grad and y.grad is None and not x.retains_grad
    (y * y).sum().backward(retain_graph=True)
    assert y.grad.tolist() == [6, 12]
    (y * 1).sum().backward()
    assert y.grad.tolist() == [7, 13], "accumulated, as in a leaf"
    z = x * 2
    z.retain_grad()
    z.register_hook(lambda g: g * 100)
    z.sum().backward()
    assert z.grad.tolist() == [100, 100], "what flows on, whatever was registered first"


def test_retain_grad_follows_writes():
    x = leaf(1.0, 2.0)
    y = x * 3
    y.retain_grad()
    y.mul_(2)
    (y * 5).sum().backward()
    assert y.grad.tolist() == [5, 5] and x.grad.tolist() == [30, 30]


def test_retained_gradient_does_not_keep_the_tensor():
    x = leaf(1.0)
    y = x * 2
    y.retain_grad()
    z = y * 3
    del y
    z.backward()
    assert x.grad.tolist() == [6]


# --- custom functions


class Exp(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class ScaledProduct(fx.autograd.Function):
    """Non-tensor arguments, several outputs."""

    seen = None

    @staticmethod
    def forward(ctx, a, scale, b, flag=False):
        ctx.save_for_backward(a, b)
        ctx.scale = scale
        ScaledProduct.seen = ctx.needs_input_grad
        return a * b * scale, a + b

    @staticmethod
    def backward(ctx, g, h):
        a, b = ctx.saved_tensors
        return g * b * ctx.scale + h, None, g * a * ctx.scale + h, None


def test_custom_function():
    assert_gradient(lambda x: Exp.apply(x * x).sum(), leaf64((2, 2)), order=3)
    x = leaf(1.0)
    y = Exp.apply(x)
    assert (
        y.grad_fn.name() == "ExpBackward"
        and y.requires_grad
        and not Exp.apply(x.detach()).requires_grad
    )


def test_custom_function_with_other_arguments():
    a, b = leaf64((3,), 1), leaf64((3,), 2)
    y, z = ScaledProduct.apply(a, 2.5, b, True)
    assert ScaledProduct.seen == (True, False, True, False)
    (y.sum() + (z * z).sum()).backward()
    np.testing.assert_allclose(a.grad.numpy(), exact(b) * 2.5 + 2 * exact(a + b))
    ScaledProduct.apply(a, 1, b.detach())[0].sum().backward()
    assert ScaledProduct.seen == (True, False, False)
    y, z = ScaledProduct.apply(a, 1.0, b)
    z.sum().backward()  # y unused: its gradient arrives as zeros
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        z.sum().backward()


def test_custom_function_in_place():
    class Double(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = leaf(1.0, 2.0)
    y = x * 3
    v = y[:1]
    z = Double.apply(y)
    assert z is y and y.tolist() == [6, 12]
    (y * y).sum().backward()
    assert x.grad.tolist() == [2 * 6 * 6, 2 * 12 * 6]
    assert v.requires_grad and v.tolist() == [6]
    with pytest.raises(RuntimeError, match="leaf"):
        Double.apply(x)


def test_custom_function_details():
    class Split(fx.autograd.Function):
        @staticmethod
        def forward(x):
            return x.clone(), x.argmax(), x.floor()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.mark_non_differentiable(output[2])
            ctx.set_materialize_grads(False)
            ctx.shape = inputs[0].shape

        @staticmethod
        def backward(ctx, g, none, zero):
            assert none is None and zero is None
            return fx.ones(ctx.shape) if g is None else g

    x = leaf(1.5, 2.5)
    y, place, floor = Split.apply(x)
    assert (
        y.requires_grad
        and not place.requires_grad
        and not floor.requires_grad
        and place.item() == 1
    )
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_custom_function_returning_its_input():
    class Same(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 7

    x = leaf(1.0)
    y = Same.apply(x)
    assert y is not x and y.data_ptr() == x.data_ptr()
    y.backward()
    assert x.grad.tolist() == [7]


@pytest.mark.parametrize(
    "returned, error, text",
    [
        (lambda g: (g, g), RuntimeError, "returned 2 gradients"),
        (lambda g: "x", TypeError, "must return Tensors or None"),
        (lambda g: fx.ones(5), RuntimeError, "shape"),
    ],
)
def test_custom_function_with_a_wrong_backward(returned, error, text):
    class Wrong(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return returned(g)

    with pytest.raises(error, match=text):
        Wrong.apply(leaf(1.0, 2.0)).sum().backward()


def test_saved_values_are_the_values_at_that_time():
    x = leaf(1.0, 2.0)
    h = x * 1
    y = Exp.apply(h)
    with fx.no_grad():
        h.zero_()
        y.zero_()
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1, 2]), rtol=1e-6)


def test_once_differentiable():
    class Square(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @fx.autograd.once_differentiable
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0]

    x = leaf(3.0)
    assert grad(Square.apply(x), x)[0].tolist() == [6]


# --- writes


WRITES = {
    "mul_": lambda x: (x * 1).mul_(x),
    "add_ then use": lambda x: (x * 2).add_(x * x) * x,
    "zero_": lambda x: (x * 2).zero_() + x,
    "fill_": lambda x: (x * 2).fill_(3.0) * x,
    "exp_ of a saved output": lambda x: x.sin().exp_(),
    "sqrt_ twice": lambda x: (x * x + 1).sqrt_().sqrt_(),
    "setitem": lambda x: set_item(x * 1, 0, x[1] * x[0]),
    "setitem number": lambda x: set_item(x * x, (slice(None), 1), 2.0),
    "setitem broadcast": lambda x: set_item(x * 1, slice(1, None), x[0] * 2),
    "view then write": lambda x: write_view(x * 1, lambda b: b.view(-1)[1:4], lambda v: v.mul_(3)),
    "row": lambda x: write_view(x * 1, lambda b: b[1], lambda v: v.mul_(v)),
    "transposed column": lambda x: write_view(x * x, lambda b: b.t()[2], lambda v: v.exp_()),
    "chain of views": lambda x: write_view(
        x * 1, lambda b: b.view(3, 2).t()[0][1:], lambda v: v.add_(x[0, :2])
    ),
    "reversed view": lambda x: write_view(x * 1, lambda b: b[::-1, ::-1], lambda v: v.mul_(x)),
    "several views": lambda x: several_views(x * 1),
    "copy_ into a view": lambda x: write_view(
        x * 1, lambda b: b[:, :2], lambda v: v.copy_(x[:, 1:] ** 2)
    ),
    "write after use": lambda x: use_then_write(x * 1),
    "masked_fill_": lambda x: (x * 2).masked_fill_(x > 0, 5.0) * x,
}


def set_item(b, index, value):
    b[index] = value
    return b * b


def write_view(b, view, write):
    v = view(b)
    write(v)
    return b * b + v.sum()


def several_views(b):
    first, second = b[0], b.view(-1)
    first.mul_(2)
    second[1].add_(first[2])
    first.add_(second[3:])
    return b * second.view(2, 3)


def use_then_write(b):
    y = b * b
    v = b[0]
    v.mul_(4)
    return y + b + v


@pytest.mark.parametrize("name", WRITES)
def test_gradients_through_writes(name):
    assert_gradient(
        lambda x: (WRITES[name](x) * fx.tensor([1.0, -2.0, 0.5], dtype=fx.float64)).sum(),
        leaf64((2, 3), 9),
        order=2,
    )


def test_writes_of_constants_cut_the_gradient_but_keep_history():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.zero_()
    assert y.requires_grad
    y.sum().backward()
    assert x.grad.tolist() == [0, 0]


def test_base_and_views_share_history():
    w, b = leaf(2.0), fx.zeros(2, 3)
    rows = b.unbind(0)
    v, u = b[0], b.view(-1)
    assert not b.requires_grad
    v.copy_(w.expand(3))
    assert (
        b.requires_grad
        and u.requires_grad
        and b[1].requires_grad
        and all(r.requires_grad for r in rows)
    )
    (u * fx.arange(6.0)).sum().backward()
    assert w.grad.tolist() == [3]


def test_view_of_view_written_under_no_grad():
    x = leaf(1.0, 2.0, 3.0)
    b = x * 1
    with fx.no_grad():
        b[1] = 7
    (b * b).sum().backward()
    assert b.tolist() == [1, 7, 3] and x.grad.tolist() == [2, 14, 6]


def test_data_writes_are_invisible_to_autograd():
    x = leaf(1.0, 2.0)
    y = x * x
    x.data.fill_(100)
    y.sum().backward()
    assert x.grad.tolist() == [2, 4] and x.tolist() == [100, 100]


def test_optimizer_step_between_forward_and_backward():
    w = leaf(2.0)
    loss = (w * w * w).sum()
    with fx.no_grad():
        w -= 1
    loss.backward()
    assert w.grad.tolist() == [12]


def test_out_refuses_gradients():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="out="):
        fx.add(x, 1, out=fx.zeros(1))
    with fx.no_grad():
        assert fx.add(x, 1, out=fx.zeros(1)).tolist() == [2]


# --- gradients of single ops where a rule has a choice


@pytest.mark.parametrize(
    "f, at, want",
    [
        (lambda x: x.abs(), [0.0, -2.0], [0, -1]),
        (lambda x: x.relu(), [0.0, -1.0, 1.0], [0, 0, 1]),
        (lambda x: x.sign(), [1.0], [0]),
        (lambda x: x.max(), [3.0, 1.0, 3.0], [0.5, 0, 0.5]),
        (lambda x: x.amin(0), [1.0, 1.0], [0.5, 0.5]),
        (lambda x: x.max(0).values, [3.0, 1.0, 3.0], [1, 0, 0]),
        (lambda x: x.maximum(fx.tensor([1.0, 1.0])), [1.0, 2.0], [0.5, 1]),
        (lambda x: x.clamp(0, 1), [0.0, 1.0, 2.0], [1, 1, 0]),
        (lambda x: x.prod(), [0.0, 2.0, 3.0], [6, 0, 0]),
        (lambda x: x.prod(), [0.0, 0.0, 3.0], [0, 0, 0]),
        (lambda x: x**0, [0.0, 2.0], [0, 0]),
        (lambda x: x**2, [0.0, 3.0], [0, 6]),
        (lambda x: fx.tensor(0.0) ** x, [2.0], [0]),
        (lambda x: x.norm(), [0.0, 0.0], [0, 0]),
        (lambda x: x.std(), [1.0, 1.0], [0, 0]),
        (lambda x: x.remainder(2), [3.0], [1]),
        (lambda x: x.floor(), [1.5], [0]),
        (lambda x: x.std(0, correction=0), [1.0, 3.0], [-0.5, 0.5]),
    ],
)
def test_conventions(f, at, want):
    x = leaf(*at)
    f(x).sum().backward()
    assert x.grad.tolist() == want


# --- long chains


@pytest.mark.slow
def test_a_million_nodes():
    x = leaf(1.0)
    y = x
    for _ in range(1_000_000):
        y = y + 1
    y.backward()
    assert x.grad.tolist() == [1] and y.tolist() == [1_000_001]
    del y
    z = x * 1
    for _ in range(300_000):
        z = z * x  # saves values, is destroyed without a backward pass
    (g,) = grad(z, x)
    assert g.tolist() == [300_001]
    del z


def test_long_chains_of_views_writes_and_functions():
    x = leaf(1.0, 2.0)
    y = x * 1
    for _ in range(20_000):
        y = y.view(2)
    z = x * 1
    for _ in range(5_000):
        z[0] += 1
    w = x
    for _ in range(5_000):
        w = Exp.apply(w * 0)
    (y + z + w).sum().backward()
    assert x.grad.tolist() == [2, 2]
    del y, z, w
    deep = x
    for _ in range(50_000):
        deep = Exp.apply(deep)
    del deep


def test_wide_graphs():
    x = leaf(1.0)
    y = sum((x * k for k in range(3000)), fx.zeros(1))
    y.backward()
    assert x.grad.item() == sum(range(3000))


def test_graphs_are_freed_without_the_collector():
    gc.disable()
    try:
        gc.collect()
        for _ in range(100):
            x = leaf(1.0, 2.0)
            y = Exp.apply(x * x)
            y.retain_grad()
            y.register_hook(lambda g: g * 2)
            y[0] = 3
            (g,) = grad(y.sum(), x, create_graph=True)
            g.sum().backward()
            del x, y, g
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- misuse


def test_misuse():
    x = leaf(1.0, 2.0)
    y = x * 2
    with pytest.raises(
        RuntimeError, match=r"output 0 has shape \(2,\); a gradient can be created implicitly"
    ):
        y.backward()
    with pytest.raises(RuntimeError, match="shape of its output"):
        y.backward(fx.ones(3))
    with pytest.raises(RuntimeError, match="does not require grad and has no history"):
        fx.ones(1).backward()
    with pytest.raises(RuntimeError, match=r"inputs\[0\] does not require grad"):
        grad(y.sum(), fx.ones(1))
    with pytest.raises(RuntimeError, match="only a leaf can stop requiring grad"):
        y.requires_grad = False
    with pytest.raises(RuntimeError, match="floating point"):
        fx.ones(1, dtype=fx.int64).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf"):
        x += 1
    with pytest.raises(RuntimeError, match="view of a leaf"):
        x[0] = 1
    with pytest.raises(RuntimeError, match="must have the tensor's type"):
        x.grad = fx.ones(3)
    with pytest.raises(RuntimeError, match="must have the tensor's type"):
        x.grad = fx.ones(2, dtype=fx.float64)
    with pytest.raises(TypeError):
        x.grad = 1
    with pytest.raises(RuntimeError, match="does not require grad"):
        fx.ones(1).register_hook(print)
    with pytest.raises(RuntimeError):
        x.numpy()
    assert x.tolist() == [1, 2] and x.grad is None


def test_nan_and_inf_flow():
    x = leaf(0.0, 1.0)
    (1 / x).sum().backward()
    assert x.grad[0].item() == -math.inf and x.grad[1].item() == -1
    y = leaf(-1.0)
    y.log().backward()
    assert math.isnan((y * 0 + y.grad * 0 + y.log()).item())


def test_gradients_of_views_are_zero_elsewhere():
    x = leaf(1.0, 2.0, 3.0)
    x[1].backward()
    assert_same(x.grad, fx.tensor([0.0, 1.0, 0.0]))
    x.grad = None
    x.expand(4, 3).sum().backward()
    assert_same(x.grad, fx.tensor([4.0, 4.0, 4.0]))


def test_backward_within_backward_through_the_same_leaf():
    """The inner pass collects for itself, although the outer one has a gradient of `w` in hand already."""
    w = fx.tensor([2.0], requires_grad=True)
    x = fx.tensor([3.0], requires_grad=True)
    inner = []

    class Again(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            with fx.enable_grad():
                inner.append(fx.autograd.grad((w * w).sum(), w)[0].item())
                (w * 5).sum().backward()
            inner.append(w.grad.item())
            return g

    (Again.apply(x) * w).sum().backward()
    assert inner == [4.0, 5.0]
    assert w.grad.item() == 8.0
    assert x.grad.item() == 2.0
