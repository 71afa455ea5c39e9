"""The caller's floating-point environment (flush to zero, denormals are zero, rounding) changes no bit, and comes back."""

import contextlib
import ctypes
import platform

import numpy as np
import pytest

import fluxion as fx
from checks import digest

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="reads glibc's x86 fenv_t",
)
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO, ROUND_UP = 1 << 15, 1 << 6, 2 << 13
MXCSR_AT = 28  # offset in fenv_t


class Environment(ctypes.Structure):
    _fields_ = [("before", ctypes.c_char * MXCSR_AT), ("mxcsr", ctypes.c_uint32)]


def get():
    env = Environment()
    ctypes.CDLL("libm.so.6").fegetenv(ctypes.byref(env))
    return env


@contextlib.contextmanager
def mxcsr(bits):
    saved, changed = get(), get()
    changed.mxcsr |= bits
    libm = ctypes.CDLL("libm.so.6")
    libm.fesetenv(ctypes.byref(changed))
    try:
        yield
        now = get().mxcsr
    finally:
        libm.fesetenv(ctypes.byref(saved))
    assert now & bits == bits, "the caller's setting was not restored"


TINY = np.array([1e-40, -3e-41, 1e-45, 1.1754944e-38, 0.3, -0.7, 5e-39, 1e-38], np.float32)
NUMBERS = TINY.tolist()


def results():
    """Every kind of entry, on numbers whose results are denormal or sensitive to rounding."""
    x = fx.from_numpy(TINY.copy())
    long = fx.from_numpy(np.resize(TINY, (300, 1000)).copy())
    leaf = x.clone().requires_grad_()
    (leaf * x + leaf * 0.5).sum().backward()
    ((leaf * 1e-39).sum() * 0.1).backward()
    written = x.clone()
    written.mul_(0.5)
    written[1] = 1e-40
    written[2:3].add_(written[3:4] / 3)
    filled = fx.full((3,), 1e-39)
    return {
        "arithmetic": digest(x * 0.5, x + x, x - 1e-41, x / 3, -x, x.abs(), x.maximum(-x)),
        "functions": digest(
            x.sqrt(),
            x.exp(),
            x.expm1(),
            x.log1p(),
            x.sin(),
            x.tanh(),
            x.erf(),
            x.sigmoid(),
            x.atan(),
        ),
        "casts": digest(
            x.double(),
            x.double().float(),
            x.half(),
            x.bfloat16(),
            x.half().float(),
            (x.double() * 1e-300).float(),
        ),
        "comparisons": digest(x > 0, x == 0, x != x.flip(0), x.bool(), x.sign(), x.signbit()),
        "reductions": digest(
            x.sum(),
            x.mean(),
            x.prod(),
            x.var(),
            x.amin(),
            long.sum(0),
            long.sum(1),
            long.sum(),
            x.norm(),
        ),
        "threads": digest(long * 0.5, long.exp(), (long * 3).cumsum(1)),
        "rows": digest(long[:9].softmax(-1), long[:9].log_softmax(-1), long[:9].logsumexp(-1)),
        "gradients": digest(leaf.grad),
        "writes": digest(
            written, filled, x.clone().fill_(1e-40), x.clone().copy_(x.double() * 0.3)
        ),
        "creation": digest(
            fx.tensor([1e-40, -1e-45, 0.1]),
            fx.full((2,), 1e-41),
            fx.linspace(0, 1e-38, 7),
            fx.tensor(NUMBERS),
            fx.tensor([1e-310], dtype=fx.float64),
            fx.tensor([1e-7, 3e-8], dtype=fx.float16),
            fx.tensor(1e-40).bfloat16(),
        ),  # fmt: skip
        "numbers": [v.hex() for v in x.tolist()]
        + [x[0].item().hex(), float(x[2]).hex(), bool(x[2])],
        "text": repr(x),
        "random": digest(fx.randn(100, generator=fx.Generator().manual_seed(1))),
    }


def network():
    """Contractions, normalization, a training step."""
    x = fx.from_numpy(np.resize(TINY, (20, 300)).copy())
    linear = fx.nn.Linear(300, 4)
    with fx.no_grad():
        linear.weight.copy_(x[:4] * 0.5)
        linear.bias.fill_(1e-39)
    optimizer = fx.optim.Adam(linear.parameters(), lr=1e-3)
    y = fx.nn.functional.layer_norm(linear(x), (4,))
    fx.nn.functional.cross_entropy(y, fx.arange(20) % 4).backward()
    norm = fx.nn.utils.clip_grad_norm_(linear.parameters(), 0.01)
    clipped = digest(norm, linear.weight.grad, linear.bias.grad)
    optimizer.step()
    for kind in (fx.optim.SGD, fx.optim.Adagrad, fx.optim.RMSprop):
        kind(linear.parameters(), lr=1e-3).step()
    image = x.view(20, 1, 15, 20)
    return {
        "matmul": digest(x @ (x.t() * 0.5), fx.mv(x, x[0])),
        "forward": digest(linear(x), y),
        "conv": digest(fx.nn.functional.conv2d(image, image[:3, :, :3, :3])),
        "clip": clipped,
        "step": digest(linear.weight.grad, linear.bias.grad, linear.weight, linear.bias),
    }


@pytest.mark.parametrize(
    "bits",
    [FLUSH_TO_ZERO, DENORMALS_ARE_ZERO, FLUSH_TO_ZERO | DENORMALS_ARE_ZERO, ROUND_UP],
    ids=["FTZ", "DAZ", "FTZ and DAZ", "round up"],
)
@pytest.mark.parametrize("program", [results, network])
def test_results_do_not_depend_on_the_environment(program, bits, threads):
    want = program()
    with mxcsr(bits):
        got = program()
    assert got == want


def test_the_switch_works():
    """The helper does change the environment: NumPy's product flushes."""
    tiny = np.float32(1e-40)
    assert tiny * np.float32(0.5) != 0
    with mxcsr(FLUSH_TO_ZERO | DENORMALS_ARE_ZERO):
        flushed = tiny * np.float32(0.5)
    assert flushed == 0


def test_the_environment_is_restored_after_errors():
    with mxcsr(FLUSH_TO_ZERO), pytest.raises(RuntimeError):
        fx.ones(2) + fx.ones(3)
    with mxcsr(ROUND_UP), pytest.raises(RuntimeError):
        fx.ones(1).backward()
