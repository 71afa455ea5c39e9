"""Programs about aliasing, in-place writes and rebinding: what PyTorch 2.13 gives (recorded), and where we give more."""

import copy

import numpy as np
import pytest

import fluxion

RAISES = "raises"
PROGRAMS = {}


def program(expected, ours=None):
    """Registers a program with PyTorch's result, and ours where PyTorch raises and the right answer is known."""

    def register(f):
        PROGRAMS[f.__name__] = (f, expected, expected if ours is None else ours)
        return f

    return register


def run(f, module):
    try:
        return f(module)
    except Exception:
        return RAISES


@program(RAISES, ours=([2.0, 2.0, 2.0], True))
def numpy_sees_write_while_tape_holds_it(T):
    x, w = T.ones(3, requires_grad=True), T.ones(3, requires_grad=True)
    y = (x * w).sum()
    array, pointer = w.detach().numpy(), w.data_ptr()
    with T.no_grad():
        w.add_(1)
    y.backward()
    return array.tolist(), pointer == w.data_ptr()


@program(RAISES, ours=[1.0, 1.0, 1.0])
def gradient_uses_the_old_bytes(T):
    x, w = T.ones(3, requires_grad=True), T.ones(3, requires_grad=True)
    y = (x * w).sum()
    with T.no_grad():
        w.add_(1)
    y.backward()
    return x.grad.tolist()


@program(([9.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 1.0, 1.0, 1.0], True))
def data_rebinding(T):
    x, y = T.ones(4), T.arange(6.0)
    old = x.data
    x.data = y
    y[0] = 9
    return x.tolist(), old.tolist(), x.data_ptr() == y.data_ptr()


@program(([5.0, 5.0], True))
def leaf_is_a_window(T):
    flat = T.zeros(4)
    p = T.nn.Parameter(T.ones(2))
    p.data = flat[1:3]
    flat += 5
    return p.tolist(), p.is_leaf


@program(RAISES, ours=[1.0, 2.0, 2.0, 3.0])
def multi_output_view_write(T):
    x = T.arange(4.0, requires_grad=True) * 1
    a, b = x.chunk(2)
    a += 1
    x.sum().backward()
    return x.tolist()


@program(RAISES)
def leaf_write(T):
    x = T.zeros(4, requires_grad=True)
    x[0] = 1


@program(True)
def deepcopy_keeps_tie(T):
    a, b = T.nn.Linear(2, 2), T.nn.Linear(2, 2)
    b.weight = a.weight
    c = copy.deepcopy(T.nn.Sequential(a, b))
    return c[0].weight is c[1].weight


@program([0.0, 7.0, 0.0])
def deepcopy_keeps_storage(T):
    flat = T.zeros(6)
    c = copy.deepcopy([flat, flat[:3], flat[3:]])
    c[0][4] = 7
    return c[2].tolist()


@program(([3.0, 3.0], [1.0, 1.0]))
def write_via_detach_keeps_history(T):
    x = T.ones(2, requires_grad=True)
    y = x * 1
    y.detach().mul_(3)
    return y.tolist(), T.autograd.grad(y.sum(), x)[0].tolist()


@program([[5.0]])
def state_dict_aliases(T):
    m = T.nn.Linear(1, 1)
    state = m.state_dict()
    with T.no_grad():
        m.weight.fill_(5)
    return state["weight"].tolist()


@program((True, [4.0, 4.0]))
def grad_accumulates_in_place(T):
    x = T.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    g = x.grad
    (x * 2).sum().backward()
    return g is x.grad, g.tolist()


@program(False)
def grads_do_not_share(T):
    a, b = T.ones(2, requires_grad=True), T.ones(2, requires_grad=True)
    (a + b).sum().backward()
    return a.grad.data_ptr() == b.grad.data_ptr()


@program([2.0, 2.0, 2.0])
def expand_sees_write(T):
    x = T.ones(3)
    y = x.view(3, 1).expand(3, 3)
    x += 1
    return y[0].tolist()


@program(RAISES)
def expand_write(T):
    T.ones(3, 1).expand(3, 3).add_(1)


@program([[1.0, 7.0, 1.0], [1.0, 1.0, 1.0]])
def reshape_by_stride(T):
    x = T.ones(2, 3)
    r = x.t().reshape(-1)
    r[0] = 9
    q = x.reshape(-1)
    q[1] = 7
    return x.tolist()


@program(([[5.0, 6.0, 1.0], [1.0, 1.0, 1.0]], True))
def contiguous_and_to_alias(T):
    x = T.ones(2, 3)
    x.contiguous()[0, 0] = 5
    x.float()[0, 1] = 6
    return x.tolist(), x.to("cpu") is x


@program(([2.0, 2.0, 2.0], (0,)))
def out_argument_resizes(T):
    o = T.empty(0)
    v = o.view(-1)
    T.add(T.ones(3), 1, out=o)
    return o.tolist(), tuple(v.shape)


@program([2.0, 2.0, 2.0])
def view_write_after_read(T):
    x = T.ones(3, requires_grad=True)
    b = x * 1
    v = b[0]
    y = b * 2
    v.mul_(5)
    y.sum().backward()
    return x.grad.tolist()


@program(RAISES, ours=[2.0, 2.0, 2.0])
def view_write_after_save(T):
    x = T.ones(3, requires_grad=True)
    b = x * 1
    y = b * b
    b[0:1].mul_(5)
    y.sum().backward()
    return x.grad.tolist()


@program(RAISES)
def view_of_no_grad_written(T):
    x = T.ones(3, requires_grad=True)
    b = x * 1
    with T.no_grad():
        v = b[0:1]
    v.mul_(5)


@program((True, True, 3.0))
def tracked_write_into_plain_base(T):
    b = T.zeros(3)
    v = b[0]
    w = T.ones((), requires_grad=True)
    v.copy_(w * 3)
    u = b[1:]
    b.sum().backward()
    return b.requires_grad, u.requires_grad, w.grad.item()


@program((False, True, [3.0, 0.0, 0.0]))
def tracked_write_via_detached(T):
    b = T.zeros(3)
    d = b.detach()
    w = T.ones((), requires_grad=True)
    d[0] = w * 3
    return b.requires_grad, d.requires_grad, b.tolist()


@program(RAISES)
def overlapping_write(T):
    y = T.arange(3.0)
    y[1:].add_(y[:-1])


@program([0.0, 0.0])
def data_dtype_round_trip(T):
    p = T.nn.Parameter(T.ones(2))
    o = T.optim.SGD([p], lr=1)
    p.grad = T.ones(2)
    p.data = p.data.half().float()
    o.step()
    return p.tolist()


@program((True, [1.0, 1.0]))
def shared_memory_pointer_stays(T):
    t = T.zeros(3)
    t.share_memory_()
    pointer, v = t.data_ptr(), t[1:]
    t.add_(1)
    return pointer == t.data_ptr(), v.tolist()


@program([0.0, 0.0])
def padding_row_zeroed(T):
    e = T.nn.Embedding(4, 2)
    e.weight.data[1].zero_()
    return e.weight[1].tolist()


@program([[5.0, 6.0], [0.0, 0.0]])
def chained_view_write(T):
    x = T.zeros(2, 2)
    x.view(-1)[0] = 5
    x.T[1, 0] = 6
    return x.tolist()


@program(([1.0, 2.0, 0.0], [1.0, 2.0, 0.0]))
def from_numpy_shares(T):
    n = np.zeros(3, np.float32)
    t = T.from_numpy(n)
    n[0] = 1
    t[1] = 2
    return t.tolist(), n.tolist()


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    f, _, ours = PROGRAMS[name]
    assert run(f, fluxion) == ours


@pytest.mark.torch
@pytest.mark.parametrize("name", PROGRAMS)
def test_recorded_result_is_pytorchs(name, torch):
    f, expected, _ = PROGRAMS[name]
    assert run(f, torch) == expected
