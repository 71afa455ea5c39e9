"""NumPy, the buffer protocol, DLPack, pickle and copy: what is shared, and what is refused."""

import array
import copy
import gc
import hashlib
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import fluxion as fx

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_round_trip(dtype):
    a = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    t = fx.from_numpy(a)
    assert t.dtype is getattr(fx, dtype)
    assert t.tolist() == a.tolist()
    b = t.numpy()
    assert b.dtype == a.dtype and np.array_equal(a, b)
    assert b.ctypes.data == a.ctypes.data == t.data_ptr()


def test_memory_is_shared_both_ways():
    a = np.zeros((2, 3), np.float32)
    t = fx.from_numpy(a)
    a[0, 0] = 1
    t[1, 2] = 2
    assert t.tolist() == a.tolist() == [[1, 0, 0], [0, 0, 2]]
    n = t.numpy()
    t += 1
    n[0, 1] = 9
    assert a.tolist() == [[2, 9, 1], [1, 1, 3]]


def test_strides_are_kept():
    a = np.arange(24.0).reshape(2, 3, 4)
    for view in (
        a.T,
        a[::-1],
        a[:, ::2, ::-1],
        a[1:, 0],
        np.broadcast_to(a[0, 0].copy(), (3, 4)),
        a[:, :0],
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            t = fx.from_numpy(view)
        assert np.array_equal(t.numpy(), view)
        assert view.size == 0 or all(
            n < 2 or s == 8 * u
            for n, s, u in zip(view.shape, view.strides, t.stride(), strict=True)
        )
        assert np.array_equal(np.asarray(t.contiguous() + 1), view + 1)


def test_views_of_tensors_as_arrays():
    t = fx.arange(12.0).reshape(3, 4)
    for view in (t.T, t[::-1], t[:, ::2], t[1], t[0, 0], t[:, :0], t[0].expand(2, 4)):
        assert np.array_equal(
            view.numpy(), np.array(view.tolist(), np.float32).reshape(tuple(view.shape))
        )


def test_arrays_keep_memory_alive():
    n = fx.full((1000,), 3.0).numpy()
    gc.collect()
    assert (n == 3).all()
    t = fx.from_numpy(np.full(1000, 4.0))
    gc.collect()
    assert (t.numpy() == 4).all()


def test_numpy_sees_writes_while_the_tape_holds_the_bytes():
    x, w = fx.ones(3, requires_grad=True), fx.ones(3, requires_grad=True)
    y = (x * w).sum()
    n = w.detach().numpy()
    with fx.no_grad():
        w.add_(1)
    y.backward()
    assert n.tolist() == [2, 2, 2]
    assert x.grad.tolist() == [1, 1, 1]


def test_read_only_arrays():
    a = np.zeros(3, np.float32)
    a.flags.writeable = False
    with pytest.warns(UserWarning, match="from_numpy: the array is read-only"):
        t = fx.from_numpy(a)
    with pytest.raises(RuntimeError, match="read-only"):
        t += 1
    assert (t + 1).tolist() == [1, 1, 1]
    assert not t.numpy().flags.writeable


def test_numpy_refusals():
    with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that requires grad"):
        fx.ones(2, requires_grad=True).numpy()
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(fx.ones(2, requires_grad=True))
    assert fx.ones(2, requires_grad=True).numpy(force=True).tolist() == [1, 1]
    with pytest.raises(TypeError, match="bfloat16"):
        fx.zeros(2, dtype=fx.bfloat16).numpy()
    with pytest.raises(TypeError, match=r"expected np.ndarray, got list"):
        fx.from_numpy([1])
    for bad in (
        np.array(["a"]),
        np.zeros(2, np.complex64),
        np.zeros(2, np.uint16),
        np.array([None]),
    ):
        with pytest.raises(TypeError, match="can't convert numpy.ndarray with element format"):
            fx.from_numpy(bad)
    with pytest.raises(ValueError, match="byte order"):
        fx.from_numpy(np.zeros(2, ">f4"))
    with pytest.raises(ValueError, match="no multiple of the element size"):
        fx.from_numpy(np.zeros(2, [("a", "f4"), ("b", "i1")])["a"])


def test_mixing_with_numpy():
    t, a = fx.arange(3.0), np.ones(3, np.float32)
    for got in (t + a, a + t, t * np.float64(2), np.float32(2) * t, t - np.int64(1)):
        assert isinstance(got, fx.Tensor) and got.dtype is fx.float32
    assert (t == np.ones(3)).tolist() == [False, True, False]
    assert np.asarray(t, dtype=np.int32).dtype == np.int32
    assert np.array(t).tolist() == [0, 1, 2]
    assert np.stack([t, t]).shape == (2, 3)
    assert np.exp(t).tolist() == pytest.approx(np.exp([0, 1, 2]).tolist())


def test_numpy_functions_of_tensors_return_tensors():
    x = fx.tensor([0.0, 4.0])
    y = np.sqrt(x)
    assert type(y) is fx.Tensor and y.dtype is fx.float32 and y.tolist() == [0, 2]
    assert type(np.add(np.ones(2), x)) is fx.Tensor
    assert np.isfinite(x).dtype is fx.bool
    into = np.ones(2, dtype=np.float32)
    assert np.add(into, x, out=into) is into and into.tolist() == [1, 5]
    assert type(np.exp(x * 0, dtype=np.complex64)) is np.ndarray  # there is no such dtype here
    with pytest.raises(RuntimeError, match="requires grad"):
        np.sqrt(x.clone().requires_grad_())


def test_buffer_protocol():
    t = fx.arange(6, dtype=fx.int32).reshape(2, 3)
    m = memoryview(t)
    assert (m.shape, m.strides, m.format, m.readonly) == ((2, 3), (12, 4), "i", False)
    m[1, 2] = 9
    assert t[1, 2].item() == 9
    assert m.tobytes() == t.numpy().tobytes()
    with pytest.raises(BufferError, match="contiguous"):
        hashlib.sha256(t.T)
    with pytest.raises(BufferError, match="requires grad"):
        memoryview(fx.ones(2, requires_grad=True))
    assert fx.tensor(array.array("d", [1, 2])).tolist() == [1, 2]


def test_frombuffer():
    data = bytearray(np.arange(4, dtype=np.int16).tobytes())
    t = fx.frombuffer(data, dtype=fx.int16)
    t[0] = 7
    assert data[0] == 7
    assert fx.frombuffer(data, dtype=fx.int16, count=2, offset=2).tolist() == [1, 2]
    with pytest.raises(ValueError, match="frombuffer"):
        fx.frombuffer(data, dtype=fx.int32, offset=1)
    with pytest.warns(UserWarning, match="read-only"):
        fx.frombuffer(b"abcd", dtype=fx.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_round_trip_with_numpy(dtype):
    t = fx.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(fx, dtype))[:, 1:]
    a = np.from_dlpack(t)
    assert a.tolist() == t.tolist() and a.ctypes.data == t.data_ptr()
    back = fx.from_dlpack(a)
    assert back.data_ptr() == t.data_ptr() and back.dtype is t.dtype and back.stride() == t.stride()


def test_dlpack_of_our_own():
    for dtype in (fx.bfloat16, fx.float32):
        t = fx.ones(2, 3, dtype=dtype)
        for capsule in (t.__dlpack__(), t.__dlpack__(max_version=(1, 0))):
            u = fx.from_dlpack(capsule)
            u[0, 0] = 5
            assert t[0, 0].item() == 5 and u.dtype is dtype
            with pytest.raises(RuntimeError, match="used already"):
                fx.from_dlpack(capsule)
    assert t.__dlpack_device__() == (1, 0)
    unused = t.__dlpack__()
    del unused, t
    gc.collect()


def test_dlpack_refusals():
    with pytest.raises(RuntimeError, match="requires grad"):
        fx.ones(2, requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="negative strides"):
        fx.arange(3)[::-1].__dlpack__()
    with pytest.raises(BufferError, match="CPU only"):
        fx.ones(2).__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError, match="DLPack capsule"):
        fx.from_dlpack([1])
    copied = fx.from_dlpack((t := fx.ones(2)).__dlpack__(copy=True))
    assert copied.data_ptr() != t.data_ptr()


@pytest.mark.torch
def test_dlpack_with_torch(torch):
    t = fx.arange(6.0).reshape(2, 3)
    p = torch.from_dlpack(t.T)
    p[0, 1] = 9
    assert t[1, 0].item() == 9
    back = fx.from_dlpack(p)
    assert back.stride() == (1, 3) and back.data_ptr() == t.data_ptr()


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_pickle(dtype):
    t = fx.tensor([[0, 1], [1, 1]]).to(getattr(fx, dtype)).T
    u = pickle.loads(pickle.dumps(t))
    assert u.dtype is t.dtype and u.tolist() == t.tolist()


def test_pickle_details():
    x = fx.ones(2, requires_grad=True)
    x.note = "kept"
    y = pickle.loads(pickle.dumps([x, x]))
    assert y[0] is y[1] and y[0].requires_grad and y[0].note == "kept"
    with pytest.raises(RuntimeError, match="leaf"):
        pickle.dumps(x * 2)
    for value in (
        fx.float32,
        fx.device("cpu"),
        fx.Size([1, 2]),
        fx.strided,
        fx.relu,
        fx.Tensor.add,
        fx.sum,
    ):
        again = pickle.loads(pickle.dumps(value))
        assert again == value and type(again) is type(value)


def test_deepcopy_keeps_aliasing():
    flat = fx.zeros(6)
    flat.note = [1]
    c = copy.deepcopy({"flat": flat, "a": flat[:3], "again": flat})
    c["flat"][1] = 7
    assert c["a"].tolist() == [0, 7, 0] and c["again"] is c["flat"]
    assert flat.sum().item() == 0 and c["flat"].note == [1] and c["flat"].note is not flat.note


def test_deepcopy_and_copy_of_leaves():
    x = fx.ones(2, requires_grad=True)
    x.sum().backward()
    d = copy.deepcopy(x)
    assert d.requires_grad and d.grad.tolist() == [1, 1] and d.grad is not x.grad
    with pytest.raises(RuntimeError, match="leaf"):
        copy.deepcopy(x * 2)
    s = copy.copy(x)
    assert s is not x and s.data_ptr() == x.data_ptr() and s.requires_grad


def test_import_does_not_load_numpy():
    code = "import sys, fluxion; fluxion.zeros(2); print('numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
