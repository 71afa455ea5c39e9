"""The Tensor type, the argument binder and the small types of the API."""

import copy
import gc
import inspect
import math
import sys
import threading
import weakref

import numpy as np
import pytest

import fluxion as fx

# --- identity and life


def test_one_object_per_tensor():
    x = fx.ones(2)
    assert x.to("cpu") is x and x.contiguous() is x and x.float() is x and x.add_(1) is x
    y = x
    y += 1
    assert y is x


def test_attributes_weakrefs_and_collection():
    x = fx.ones(2)
    assert not gc.is_tracked(x)
    x.note, x.me = "kept", x
    assert gc.is_tracked(x) and x.note == "kept" and vars(x)["note"] == "kept"
    dead = []
    r = weakref.ref(x, lambda _: dead.append(1))
    del x
    gc.collect()
    assert r() is None and dead == [1]


def test_cycle_through_grad_is_collected():
    p = fx.ones(2, requires_grad=True)
    p.sum().backward()
    p.grad.owner = p
    r = weakref.ref(p)
    del p
    gc.collect()
    assert r() is None


def test_subclasses():
    class Mine(fx.Tensor):
        pass

    m = fx.Tensor._make_subclass(Mine, t := fx.ones(2), True)
    assert type(m) is Mine and m.requires_grad and m.is_leaf and m.data_ptr() == t.data_ptr()
    assert type(m + 1) is fx.Tensor
    m.x = m
    r = weakref.ref(m)
    del m
    gc.collect()
    assert r() is None
    assert type(Mine(2, 3)) is Mine and Mine([1, 2]).tolist() == [1, 2]


def test_grad_object_persists():
    p = fx.ones(2, requires_grad=True)
    assert p.grad is None
    (p * 2).sum().backward()
    g = p.grad
    g.note = 1
    (p * 2).sum().backward()
    assert p.grad is g and p.grad.note == 1 and g.tolist() == [4, 4]
    p.grad = None
    assert p.grad is None
    p.grad = h = fx.zeros(2)
    assert p.grad is h
    del p.grad
    assert p.grad is None
    for bad, kind in (
        (1, TypeError),
        (fx.zeros(3), RuntimeError),
        (fx.zeros(2, dtype=fx.float64), RuntimeError),
    ):
        with pytest.raises(kind, match="grad"):
            p.grad = bad


def test_no_leak_of_objects():
    x = fx.ones(16)
    before = sys.getrefcount(fx.Tensor)
    for _ in range(1000):
        x + x, x[0], x.view(-1), x.shape, x.sum(), x.grad
    assert abs(sys.getrefcount(fx.Tensor) - before) < 300  # the free list holds no references


def test_hash_is_identity():
    x = fx.ones(2)
    assert {x: 1}[x] == 1 and x in {x} and hash(x) != hash(fx.ones(2))


def test_threads():
    x = fx.ones(64, 64)
    results = []

    def work():
        results.append(sum((x @ x).sum().item() for _ in range(50)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert results == [50 * 64.0**3] * 4


# --- operators and conversions

NUMBERS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
           "//": lambda a, b: a // b, "%": lambda a, b: a % b, "**": lambda a, b: a**b}  # fmt: skip
BITS = {"&": lambda a, b: a & b, "|": lambda a, b: a | b, "^": lambda a, b: a ^ b, "<<": lambda a, b: a << b,
        ">>": lambda a, b: a >> b}  # fmt: skip
COMPARISONS = {"==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
               ">": lambda a, b: a > b, ">=": lambda a, b: a >= b}  # fmt: skip


@pytest.mark.parametrize("name", [*NUMBERS, *COMPARISONS])
def test_operators_on_both_sides(name):
    f = (NUMBERS | COMPARISONS)[name]
    a, b = [1.0, 2.0, 3.5], [2.0, 2.0, 0.5]
    want = [f(x, y) for x, y in zip(a, b, strict=True)]
    assert f(fx.tensor(a), fx.tensor(b)).tolist() == pytest.approx(want)
    assert f(fx.tensor(a), 2).tolist() == pytest.approx([f(x, 2) for x in a])
    assert f(2.5, fx.tensor(a)).tolist() == pytest.approx([f(2.5, x) for x in a])


@pytest.mark.parametrize("name", BITS)
def test_bit_operators(name):
    f = BITS[name]
    a, b = [1, 6, 12], [1, 2, 3]
    assert f(fx.tensor(a), fx.tensor(b)).tolist() == [f(x, y) for x, y in zip(a, b, strict=True)]
    assert f(9, fx.tensor(b)).tolist() == [f(9, x) for x in b]


def test_inplace_operators():
    x = fx.tensor([4.0, 9.0])
    p = x.data_ptr()
    x += 1
    x -= fx.tensor([1.0, 2.0])
    x *= 3
    x /= 2
    x **= 2
    x //= 3
    x %= 7
    assert (
        x.tolist() == [((4.0 * 1.5) ** 2 // 3) % 7, ((8.0 * 1.5) ** 2 // 3) % 7]
        and x.data_ptr() == p
    )
    m = fx.tensor([True, False])
    m |= fx.tensor([False, True])
    m &= fx.tensor([True, False])
    m ^= True
    assert m.tolist() == [False, True]


def test_inplace_through_other_views():
    x = fx.arange(6.0).reshape(2, 3)
    row, column = x[0], x[:, 1]
    row += 10
    column *= 2
    assert x.tolist() == [[10, 22, 12], [3, 8, 5]]


def test_unary_operators():
    x = fx.tensor([1, -2])
    assert (
        (-x).tolist() == [-1, 2]
        and (~x).tolist() == [-2, 1]
        and abs(x).tolist() == [1, 2]
        and (+x) is x
    )
    assert (~fx.tensor([True, False])).tolist() == [False, True]


def test_operands_that_do_not_fit():
    x = fx.ones(2)
    for other in ("a", None, [1], object(), 1j):
        with pytest.raises(TypeError, match="unsupported operand"):
            x + other
    assert (x == None) is False and (x != "a") is True  # noqa: E711
    with pytest.raises(TypeError, match="'<' not supported"):
        x < "a"  # noqa: B015


def test_conversions_to_python():
    assert bool(fx.tensor([2])) is True and bool(fx.tensor(0.0)) is False
    assert int(fx.tensor(-2.7)) == -2 and float(fx.tensor(3)) == 3.0 and [5, 6][fx.tensor(1)] == 6
    assert fx.tensor(2**53 + 1).item() == 2**53 + 1 and int(fx.tensor(2**53 + 1)) == 2**53 + 1
    assert fx.tensor(True).item() is True and fx.tensor([[1.5]]).item() == 1.5
    assert list(range(fx.tensor(3))) == [0, 1, 2]
    assert round(float(fx.tensor(2.5))) == 2 and math.isnan(fx.tensor(math.nan))
    with pytest.raises(
        RuntimeError, match="Boolean value of Tensor with more than one value is ambiguous"
    ):
        bool(fx.ones(2))
    with pytest.raises(RuntimeError, match="Boolean value of Tensor with no values is ambiguous"):
        bool(fx.ones(0))
    with pytest.raises(
        ValueError, match="only one element tensors can be converted to Python scalars"
    ):
        float(fx.ones(2))
    with pytest.raises(TypeError, match="only integer tensors of a single element"):
        [1, 2][fx.tensor(1.0)]
    with pytest.raises(RuntimeError, match="a Tensor with 2 elements cannot be converted"):
        fx.ones(2).item()
    with pytest.raises(OverflowError):
        int(fx.tensor(math.inf))


def test_formatting():
    assert f"{fx.tensor(1.5):.2f}" == "1.50" and f"{fx.tensor(3)}" == "3"
    assert f"{fx.tensor([1])}" == "tensor([1])"
    with pytest.raises(TypeError, match="format"):
        f"{fx.ones(2):.2f}"
    x = fx.ones(2, requires_grad=True)
    assert repr(x) == "tensor([1., 1.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 2.], grad_fn=<MulBackward0>)"


# --- construction


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1, "int64", ()),
        (1.0, "float32", ()),
        (True, "bool", ()),
        ([], "float32", (0,)),
        ([[], []], "float32", (2, 0)),
        ([1, 2], "int64", (2,)),
        ([True, 2], "int64", (2,)),
        ([1, 2.0], "float32", (2,)),
        ([[1], [2]], "int64", (2, 1)),
        (((1, 2), [3, 4]), "int64", (2, 2)),
        (range(3), "int64", (3,)),
        (np.float64(2), "float64", ()),
        (np.float32(2), "float32", ()),
        ([np.float32(2), 1], "float32", (2,)),
        ([np.int16(2), np.int16(3)], "int16", (2,)),
        (np.ones((2, 2)), "float64", (2, 2)),
        ([np.ones(2), np.zeros(2)], "float64", (2, 2)),
        (np.bool_(True), "bool", ()),
    ],
    ids=repr,
)
def test_tensor_infers(data, dtype, shape):
    t = fx.tensor(data)
    assert t.dtype is getattr(fx, dtype) and tuple(t.shape) == shape
    assert t.tolist() == np.array(data).tolist()


def test_tensor_of_tensors():
    assert fx.tensor([fx.tensor(1), fx.tensor(2.5)]).tolist() == [1, 2.5]
    x = fx.ones(2, requires_grad=True)
    y = fx.tensor(x)
    assert not y.requires_grad and y.data_ptr() != x.data_ptr()


def test_tensor_with_dtype():
    assert fx.tensor(-1, dtype=fx.uint8).item() == 255
    assert fx.tensor([1.5], dtype=fx.int32).tolist() == [1]
    assert fx.tensor([0, 2], dtype=fx.bool).tolist() == [False, True]
    assert fx.tensor([1], dtype=float).dtype is fx.float64
    assert fx.tensor([1.0, 2.0], requires_grad=True).requires_grad


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        ([[1, 2], [3]], ValueError, r"expected a sequence of length 2 at dim 1 \(got 1\)"),
        ([[1, 2], 3], ValueError, "expected a sequence of length 2 at dim 1, got int"),
        ([3, [1, 2]], ValueError, "expected a number at depth 1, got a sequence of length 2"),
        ("a", TypeError, "cannot make a tensor of str"),
        ([1, "a"], TypeError, "cannot make a tensor of str"),
        (None, TypeError, "cannot make a tensor of None"),
        ({1: 2}, TypeError, "cannot make a tensor of dict"),
        (2**63, ValueError, "9223372036854775808 does not fit in 64 bits"),
        ([fx.ones(2)], ValueError, r"only one element tensors .* Use stack\(\)"),
    ],
    ids=repr,
)
def test_tensor_errors(data, kind, text):
    with pytest.raises(kind, match=text):
        fx.tensor(data)


def test_tensor_overflow():
    with pytest.raises(RuntimeError, match="300 does not fit in uint8"):
        fx.tensor(300, dtype=fx.uint8)
    with pytest.raises(ValueError, match="does not fit in int32"):
        fx.tensor(math.inf, dtype=fx.int32)


def test_as_tensor_shares():
    a = np.ones(2, np.float32)
    assert fx.as_tensor(a).data_ptr() == a.ctypes.data
    t = fx.ones(2)
    assert fx.as_tensor(t) is t and fx.asarray(t) is t
    assert fx.asarray(t, copy=True).data_ptr() != t.data_ptr()
    assert fx.as_tensor([1, 2], dtype=fx.float64).dtype is fx.float64
    with pytest.raises(ValueError, match="cannot be shared"):
        fx.asarray([1, 2], copy=False)


def test_tensor_type_as_constructor():
    assert (
        fx.Tensor().shape == (0,)
        and fx.Tensor(2, 3).shape == (2, 3)
        and fx.Tensor(fx.Size([4])).shape == (4,)
    )
    assert fx.Tensor([1, 2]).dtype is fx.float32 and fx.Tensor((1, 2)).tolist() == [1, 2]
    with pytest.raises(TypeError, match="must be a sequence"):
        fx.Tensor(2.5)


def test_default_dtype():
    fx.set_default_dtype(fx.float64)
    assert (
        fx.get_default_dtype() is fx.float64
        and fx.tensor(1.0).dtype is fx.float64
        and fx.zeros(1).dtype is fx.float64
    )
    with pytest.raises(TypeError, match="floating"):
        fx.set_default_dtype(fx.int32)


# --- arguments


@pytest.mark.parametrize(
    "args",
    [(2, 3), ((2, 3),), ([2, 3],), (fx.Size([2, 3]),), (np.int64(2), fx.tensor(3))],
    ids=repr,
)
def test_sizes_as_varargs_or_sequence(args):
    assert fx.zeros(*args).shape == (2, 3)
    assert fx.ones(6).view(*args).shape == (2, 3)
    assert fx.ones(6).reshape(*args).shape == (2, 3)


def test_size_by_keyword():
    assert (
        fx.zeros(size=(2, 3)).shape == (2, 3)
        and fx.zeros(()).shape == ()
        and fx.zeros(3, dtype=fx.int8).itemsize == 1
    )


def test_dims():
    x = fx.ones(2, 3, 4)
    assert (
        x.sum(0).shape == (3, 4)
        and x.sum((0, -1)).shape == (3,)
        and x.sum(dim=[1], keepdim=True).shape == (2, 1, 4)
    )
    assert x.sum(axis=0, keepdims=True).shape == (1, 3, 4) and fx.sum(
        input=x, dim=fx.tensor(1)
    ).shape == (2, 4)


def test_device_and_ignored_keywords():
    x = fx.zeros(2, device="cpu", layout=fx.strided, pin_memory=False)
    assert fx.zeros(2, device=fx.device("cpu")).device == x.device
    assert fx.empty_like(x, memory_format=fx.preserve_format).shape == (2,)
    with pytest.raises(
        RuntimeError, match="device 'cuda' is not available: this build of Fluxion has only 'cpu'"
    ):
        fx.zeros(2, device="cuda:0")


def test_to():
    x = fx.ones(2)
    assert x.to(fx.float16).dtype is fx.float16 and x.to("cpu", fx.int32).dtype is fx.int32
    assert (
        x.to(dtype=fx.int8).dtype is fx.int8
        and x.to(fx.zeros(1, dtype=fx.float64)).dtype is fx.float64
    )
    assert x.to("cpu") is x and x.to(x) is x and x.to(fx.float32, copy=True) is not x
    assert x.to(device="cpu", dtype=fx.long, non_blocking=True).dtype is fx.int64
    for bad in ("cuda", fx.device("meta")):
        with pytest.raises(RuntimeError, match="is not available"):
            x.to(bad)
    with pytest.raises(RuntimeError, match="cuda"):
        x.cuda()


def test_dtype_conversions():
    x = fx.tensor([0, 1])
    names = dict(float="float32", double="float64", half="float16", bfloat16="bfloat16", long="int64", int="int32",
                 short="int16", char="int8", byte="uint8", bool="bool")  # fmt: skip
    for method, dtype in names.items():
        assert getattr(x, method)().dtype is getattr(fx, dtype)
    assert x.type() == "fluxion.LongTensor" and x.type(fx.float32).dtype is fx.float32
    assert (
        x.type("torch.FloatTensor").dtype is fx.float32
        and x.type_as(fx.ones(1)).dtype is fx.float32
    )
    assert isinstance(x, fx.LongTensor) and not isinstance(x, fx.FloatTensor)
    assert fx.FloatTensor([1, 2]).dtype is fx.float32 and fx.LongTensor(2).shape == (2,)


def test_view_as_dtype():
    x = fx.tensor([1.0, 2.0])
    assert x.view(fx.int32).tolist() == [0x3F800000, 0x40000000]
    assert x.view(fx.uint8).shape == (8,) and x.view(fx.uint8).view(fx.float32).tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="cannot be seen as"):
        fx.ones(3).view(fx.float64)


def test_out():
    out = fx.empty(0)
    view = out.view(-1)
    assert (
        fx.add(fx.ones(3), 1, out=out) is out and out.tolist() == [2, 2, 2] and view.shape == (0,)
    )
    out = fx.zeros(3)
    p = out.data_ptr()
    fx.mul(fx.ones(3), 4, out=out)
    assert out.data_ptr() == p and out.tolist() == [4, 4, 4]
    with pytest.warns(UserWarning, match=r"resized from \(3\)|resized from \(3,\)"):
        fx.mul(fx.ones(2), 4, out=out)
    with pytest.raises(RuntimeError, match="can't be cast"):
        fx.add(fx.ones(3), 1, out=fx.zeros(3, dtype=fx.int64))
    with pytest.raises(RuntimeError, match="out= does not support gradients"):
        fx.add(fx.ones(3, requires_grad=True), 1, out=fx.zeros(3))


def test_named_results():
    r = fx.ones(2, 3).max(1)
    assert type(r).__name__ == "max" and r.values.tolist() == [1, 1] and r[1] is r.indices
    values, indices = fx.max(fx.tensor([[1, 3], [4, 2]]), dim=1)
    assert values.tolist() == [3, 4] and indices.tolist() == [1, 0]
    assert fx.max(fx.tensor([1, 3])).item() == 3 and fx.max(fx.ones(2), fx.zeros(2)).tolist() == [
        1,
        1,
    ]


def test_callables():
    assert fx.sum.__name__ == "sum" and fx.Tensor.add_.__qualname__ == "Tensor.add_"
    assert fx.sum.__doc__.startswith("sum(input, dim=None, keepdim=False, *, dtype=None)")
    assert list(inspect.signature(fx.sum).parameters) == ["input", "dim", "keepdim", "dtype"]
    assert str(inspect.signature(fx.zeros)).startswith("(*size, dtype=None")
    assert fx.ones(2).add(1).tolist() == fx.Tensor.add(fx.ones(2), 1).tolist() == [2, 2]
    add = fx.ones(2).add
    assert add(1).tolist() == [2, 2]

    class Holder:
        f = fx.neg  # a function, not a method: it does not bind

    assert Holder().f(fx.ones(1)).tolist() == [-1]


# --- attributes and the edits of a handle


def test_attributes():
    x = fx.ones(2, 3)
    assert (x.shape, x.ndim, x.dtype, x.itemsize, x.nbytes, x.layout) == (
        (2, 3),
        2,
        fx.float32,
        4,
        24,
        fx.strided,
    )
    assert (x.is_cpu, x.is_cuda, x.is_leaf, x.requires_grad, x.grad_fn, x._base) == (
        True,
        False,
        True,
        False,
        None,
        None,
    )
    assert x.size() == x.shape and x.size(-1) == 3 and x.stride() == (3, 1) and x.stride(0) == 3
    assert x.numel() == fx.numel(x) == x.nelement() == 6 and x.dim() == 2 and x.element_size() == 4
    assert x.T.shape == x.mT.shape == x.H.shape == (3, 2) and fx.ones(2, 3, 4).mT.shape == (2, 4, 3)
    assert (
        x[1].storage_offset() == 3
        and not x.T.is_contiguous()
        and x[0]._base is x
        and x[0]._is_view()
    )
    assert x.is_floating_point() and fx.is_tensor(x) and not fx.is_tensor(1)
    v = x._version
    x += 1
    assert x._version > v
    with pytest.raises(AttributeError):
        x.shape = 3


def test_requires_grad():
    x = fx.ones(2)
    assert x.requires_grad_() is x and x.requires_grad
    x.requires_grad = False
    assert not x.requires_grad
    with pytest.raises(RuntimeError, match="floating"):
        fx.arange(2).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf"):
        (fx.ones(2, requires_grad=True) * 2).requires_grad = False


def test_data():
    x, y = fx.ones(4), fx.arange(6.0)
    d = x.data
    x.data = y
    y[0] = 9
    assert (
        x.tolist() == [9, 1, 2, 3, 4, 5]
        and d.tolist() == [1, 1, 1, 1]
        and x.data_ptr() == y.data_ptr()
    )
    p = fx.ones(2, requires_grad=True)
    p.data.mul_(3)
    assert p.tolist() == [3, 3] and p.is_leaf
    with pytest.raises(RuntimeError, match="floating point"):
        p.data = fx.zeros(2, dtype=fx.int64)
    with pytest.raises(TypeError, match="data must be a Tensor"):
        p.data = 1


def test_resize_and_set():
    x = fx.arange(6.0)
    p = x.data_ptr()
    assert x.resize_(2, 2) is x and x.tolist() == [[0, 1], [2, 3]] and x.data_ptr() == p
    x.resize_(3, 4)
    assert x.shape == (3, 4) and x.view(-1)[:4].tolist() == [0, 1, 2, 3]
    y = fx.zeros(1)
    y.set_(x)
    assert y.data_ptr() == x.data_ptr() and y.shape == x.shape
    y.set_(x, 1, (2,), (4,))
    assert y.tolist() == [x[0, 1].item(), x[1, 1].item()]


def test_fill_copy_zero():
    x = fx.ones(2, 2)
    assert x.zero_().sum().item() == 0 and x.fill_(3).sum().item() == 12
    assert (
        x.copy_(fx.tensor([1, 2])).tolist() == [[1, 2], [1, 2]]
        and x.fill_(fx.tensor(7)).sum().item() == 28
    )


def test_share_memory():
    t = fx.zeros(3)
    assert t.share_memory_() is t and t.is_shared()
    p, v = t.data_ptr(), t[1:]
    t.add_(1)
    assert p == t.data_ptr() and v.tolist() == [1, 1]


# --- gradient modes


def test_no_grad():
    x = fx.ones(2, requires_grad=True)
    with fx.no_grad():
        assert not (x * 2).requires_grad and not fx.is_grad_enabled()
        with fx.enable_grad():
            assert (x * 2).requires_grad
        with fx.set_grad_enabled(True):
            assert (x * 2).requires_grad
        assert not fx.is_grad_enabled()
    assert (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), fx.no_grad():
        1 / 0
    assert fx.is_grad_enabled()


@pytest.mark.parametrize(
    "decorator", [fx.no_grad, fx.no_grad(), fx.inference_mode(), fx.inference_mode], ids=str
)
def test_decorators(decorator):
    @decorator
    def f(x, *, y=1):
        "doc"
        return fx.is_grad_enabled()

    assert f(1, y=2) is False and f.__name__ == "f" and f.__doc__ == "doc" and fx.is_grad_enabled()

    @decorator
    def steps():
        got = yield fx.is_grad_enabled()
        yield got

    g = steps()
    assert next(g) is False and fx.is_grad_enabled() and g.send(5) == 5


def test_set_grad_enabled():
    fx.set_grad_enabled(False)
    assert not fx.is_grad_enabled()
    fx.set_grad_enabled(True)

    @fx.set_grad_enabled(False)
    def f():
        return fx.is_grad_enabled()

    assert fx.is_grad_enabled() and f() is False and fx.is_grad_enabled()


def test_modes_belong_to_threads():
    seen = []
    with fx.no_grad():
        t = threading.Thread(target=lambda: seen.append(fx.is_grad_enabled()))
        t.start()
        t.join()
    assert seen == [True]


def test_inference_mode():
    with fx.inference_mode():
        assert fx.is_inference_mode_enabled() and not fx.is_grad_enabled()
    with fx.inference_mode(False):
        assert fx.is_grad_enabled() and not fx.is_inference_mode_enabled()


# --- autograd


def test_backward_and_grad():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    y.backward(fx.ones(2))
    assert x.grad.tolist() == [2, 4]
    (g,) = fx.autograd.grad((x * x).sum(), x)
    assert g.tolist() == [2, 4] and x.grad.tolist() == [2, 4]
    (g,) = fx.autograd.grad((x**3).sum(), x, create_graph=True)
    (h,) = fx.autograd.grad(g.sum(), x)
    assert h.tolist() == [6, 12]
    z = fx.ones(2, requires_grad=True)
    assert fx.autograd.grad(x.sum(), [x, z], allow_unused=True)[1] is None
    assert fx.autograd.grad(x.sum(), [x, z], materialize_grads=True)[1].tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="allow_unused"):
        fx.autograd.grad(x.sum(), [x, z])
    fx.autograd.backward([x.sum(), (z * 2).sum()], inputs=[z])
    assert z.grad.tolist() == [2, 2] and x.grad.tolist() == [2, 4]


def test_retain_graph():
    x = fx.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4, 4]
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_hooks():
    x = fx.ones(2, requires_grad=True)
    seen = []
    h = x.register_hook(lambda g: seen.append(g.tolist()))
    with x.register_hook(lambda g: g * 10):
        (x * 2).sum().backward()
    (x * 2).sum().backward()
    h.remove()
    (x * 2).sum().backward()
    assert seen == [[2, 2], [2, 2]] and x.grad.tolist() == [24, 24]
    y = x * 3
    y.register_hook(lambda g: g + 1)
    y.retain_grad()
    y.sum().backward()
    assert y.retains_grad and y.grad.tolist() == [2, 2]


def test_exceptions_of_hooks_propagate():
    class Mine(Exception):
        pass

    def hook(g):
        raise Mine("here")

    x = fx.ones(2, requires_grad=True)
    x.register_hook(hook)
    with pytest.raises(Mine, match="here"):
        (x * 2).sum().backward()
    with pytest.raises(RuntimeError, match="require grad"):
        fx.ones(2).register_hook(print)


def test_grad_fn():
    x = fx.ones(2, requires_grad=True)
    y = x * 2
    node = y.grad_fn
    assert node.name() == "MulBackward0" and repr(node).startswith("<MulBackward0 object at 0x")
    leaf = node.next_functions[0][0]
    assert leaf.name() == "AccumulateGrad" and leaf.variable is x and y.grad_fn == node


class Exp(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


def test_function():
    x = fx.tensor([0.0, 1.0], requires_grad=True)
    y = Exp.apply(x)
    assert type(y.grad_fn.name()) is str and y.grad_fn.name() == "ExpBackward"
    (g,) = fx.autograd.grad(y.sum(), x, create_graph=True)
    (h,) = fx.autograd.grad(g.sum(), x)
    assert g.tolist() == h.tolist() == y.tolist()
    assert not Exp.apply(fx.ones(2)).requires_grad


def test_function_is_freed():
    class Marker:
        pass

    class F(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.marker = Marker()
            markers.append(weakref.ref(ctx.marker))
            y = x * 2
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx, g):
            ctx.saved_tensors
            return g * 2

    markers = []
    x = fx.ones(2, requires_grad=True)
    F.apply(x).sum().backward()
    F.apply(x)
    gc.collect()
    assert [m() for m in markers] == [None, None]


def test_function_with_many_arguments():
    class Mix(fx.autograd.Function):
        @staticmethod
        def forward(ctx, a, scale, b):
            ctx.scale = scale
            ctx.mark_non_differentiable(positive := (a > 0).float())
            return a * scale + b, a, positive

        @staticmethod
        def backward(ctx, g, ga, gp):
            assert gp.tolist() == [0, 0]
            return g * ctx.scale + ga, None, g

    a, b = fx.ones(2, requires_grad=True), fx.ones(2, requires_grad=True)
    y, same, positive = Mix.apply(a, 3, b)
    assert same is not a and same.requires_grad and not positive.requires_grad
    (y + same * 5).sum().backward()
    assert a.grad.tolist() == [8, 8] and b.grad.tolist() == [1, 1]


def test_function_with_setup_context():
    class Square(fx.autograd.Function):
        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])

        @staticmethod
        def backward(ctx, g):
            return 2 * g * ctx.saved_tensors[0]

    x = fx.tensor([3.0], requires_grad=True)
    (g,) = fx.autograd.grad(Square.apply(x), x, create_graph=True)
    assert g.item() == 6 and fx.autograd.grad(g, x)[0].item() == 2


def test_function_mark_dirty():
    class Double(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = fx.ones(2, requires_grad=True)
    y = x * 1
    z = Double.apply(y)
    assert z is y
    z.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_function_errors():
    class Bad(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return answer

    x = fx.ones(2, requires_grad=True)
    for given, kind, text in (
        (
            (fx.ones(2), fx.ones(2)),
            RuntimeError,
            "returned 2 gradients, but forward has 1 arguments",
        ),
        (fx.ones(3), RuntimeError, r"gradient of shape \(3,\) for argument 0 of shape \(2,\)"),
        (1, TypeError, "must return Tensors or None"),
    ):
        answer = given
        with pytest.raises(kind, match=text):
            Bad.apply(x).sum().backward()
    with pytest.raises(TypeError, match=r"apply"):
        Bad()


# --- small types


def test_size():
    s = fx.ones(2, 3).shape
    assert (
        isinstance(s, fx.Size)
        and isinstance(s, tuple)
        and repr(s) == "fluxion.Size([2, 3])"
        and s.numel() == 6
    )
    assert (
        type(s[:-1] + (4, 5)) is fx.Size
        and s[:-1] + (4, 5) == (2, 4, 5)
        and type((1,) + s) is fx.Size
    )
    assert (
        type(s * 2) is fx.Size
        and s[0] == 2
        and fx.Size([]).numel() == 1
        and hash(s) == hash((2, 3))
    )
    assert fx.Size([np.int64(1), fx.tensor(2)]) == (1, 2)
    with pytest.raises(TypeError, match="item 0 is 'float'"):
        fx.Size([1.5])
    assert copy.copy(s) == s


def test_dtype():
    assert repr(fx.float32) == "fluxion.float32" and fx.float is fx.float32 and fx.long is fx.int64
    assert fx.float32.is_floating_point and not fx.int8.is_floating_point and fx.int64.itemsize == 8
    assert fx.int8.is_signed and not fx.uint8.is_signed and copy.deepcopy(fx.half) is fx.float16
    assert {fx.float32: 1}[fx.ones(1).dtype] == 1


def test_device():
    d = fx.ones(1).device
    assert (d.type, d.index, repr(d), str(d)) == ("cpu", None, "device(type='cpu')", "cpu")
    e = fx.device("cuda:1")
    assert (e.type, e.index, repr(e), str(e)) == (
        "cuda",
        1,
        "device(type='cuda', index=1)",
        "cuda:1",
    )
    assert (
        fx.device("cpu") == d
        and fx.device("cuda", 1) == e
        and fx.device(e) is e
        and hash(fx.device("cpu")) == hash(d)
    )
    assert d != e and d != "cpu"
    with d:
        assert fx.zeros(1).device == d
    with pytest.raises(RuntimeError, match="is not a known device type"):
        fx.device("foo")
    with pytest.raises(RuntimeError, match="must look like"):
        fx.device("cuda:x")
    with pytest.raises(RuntimeError, match="not available"), e:
        pass


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_finfo(name):
    ours, theirs = fx.finfo(getattr(fx, name)), np.finfo(name)
    for field in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution"):
        assert getattr(ours, field) == pytest.approx(
            float(getattr(theirs, field)), rel=1e-3 if field == "resolution" else 0
        )
    assert ours.dtype == name


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64"])
def test_iinfo(name):
    ours, theirs = fx.iinfo(getattr(fx, name)), np.iinfo(name)
    assert (ours.min, ours.max, ours.bits) == (theirs.min, theirs.max, theirs.bits)
    with pytest.raises(TypeError, match="iinfo"):
        fx.iinfo(fx.float32)
    with pytest.raises(TypeError, match="finfo"):
        fx.finfo(fx.int8)


def test_promotion():
    assert (
        fx.promote_types(fx.int32, fx.float16) is fx.float16
        and fx.promote_types(fx.uint8, fx.int8) is fx.int16
    )
    assert fx.result_type(fx.ones(2, dtype=fx.float16), 1.5) is fx.float16
    assert fx.result_type(fx.ones(2, dtype=fx.int8), 1.5) is fx.float32
    assert fx.can_cast(fx.float64, fx.float16) and not fx.can_cast(fx.float32, fx.int64)


def test_generator():
    g = fx.Generator().manual_seed(7)
    assert (
        g.initial_seed() == 7
        and fx.manual_seed(5) is fx.default_generator
        and fx.initial_seed() == 5
    )
    state = fx.get_rng_state()
    assert state.dtype is fx.uint8
    with fx.random.fork_rng():
        fx.manual_seed(1)
    assert fx.initial_seed() == 5
    fx.set_rng_state(state)
    g.set_state(g.get_state())
    assert isinstance(g.seed(), int) and g.device.type == "cpu"
    with pytest.raises(TypeError, match="uint8 Tensor of 16 elements"):
        fx.set_rng_state(fx.ones(3))


def test_threads_setting():
    fx.set_num_threads(2)
    assert fx.get_num_threads() == 2
    with pytest.raises(ValueError):
        fx.set_num_threads(0)


def test_printoptions():
    try:
        fx.set_printoptions(precision=2)
        assert repr(fx.tensor([1 / 3])) == "tensor([0.33])"
        fx.set_printoptions(sci_mode=True)
        assert "e" in repr(fx.tensor([1.0]))
    finally:
        fx.set_printoptions(profile="default")
        fx.set_printoptions(sci_mode=None)
    assert repr(fx.tensor([1 / 3])) == "tensor([0.3333])"
