"""What users read when they make a mistake: exception types and texts, word for word.

    python tests/python/test_errors.py --record      writes data/error_texts.json anew; read the difference

Every text names the op, the argument, what was required and what was given. Nothing a user passes may crash, and
after an error everything goes on working.
"""

import json
import math
import resource
import sys
from pathlib import Path

import pytest

import fluxion as fx

TEXTS = Path(__file__).parent / "data/error_texts.json"

CASES = [
    # shapes
    "fx.ones(2, 3) + fx.ones(4)",
    "fx.ones(2, 3, 4).mul_(fx.ones(2, 1))",
    "fx.ones(3).add_(fx.ones(2, 3))",
    "fx.where(fx.ones(2) > 0, fx.ones(3), 1.0)",
    "fx.ones(2, 3).view(7)",
    "fx.ones(2, 3).view(-1, -1)",
    "fx.ones(2, 3).view(-1, 4)",
    "fx.ones(2, 3).view(-2, 3)",
    "fx.ones(2, 3).t().view(6)",
    "fx.ones(2, 3).reshape(5)",
    "fx.ones(0, 3).view(-1, 0)",
    "fx.ones(2, 3).expand(2, 4)",
    "fx.ones(2, 3).expand(3)",
    "fx.ones(2, 3).expand(-1, 2, 3)",
    "fx.ones(2, 3).permute(0)",
    "fx.ones(2, 3).permute(0, 0)",
    "fx.ones(2, 3).transpose(0, 2)",
    "fx.ones(1, 2, 3).t()",
    "fx.ones(2, 3).movedim((0, 1), (0,))",
    "fx.ones(2, 3).movedim((0, 0), (0, 1))",
    "fx.ones(2, 3).unsqueeze(3)",
    "fx.ones(2, 3).flatten(1, 0)",
    "fx.ones(2, 3).unflatten(1, (2, 2))",
    "fx.tensor(1.0).unflatten(0, (1,))",
    "fx.ones(2, 3).sum_to_size(4)",
    "fx.ones(2, 3).copy_(fx.ones(4))",
    "fx.ones(2, 3).fill_(fx.ones(2))",
    "fx.cat([fx.ones(2, 3), fx.ones(2, 4)])",
    "fx.stack([fx.ones(2), fx.ones(3)])",
    "fx.cat([])",
    # dims
    "fx.ones(2, 3).sum(2)",
    "fx.ones(2, 3).sum(-3)",
    "fx.ones(2, 3).sum((0, 0))",
    "fx.ones(2, 3).softmax(2)",
    "fx.ones(2, 3).argmax(5)",
    "fx.tensor(1.0).sum(1)",
    "fx.ones(2, 3).size(2)",
    "fx.ones(2, 3).cumsum(2)",
    "fx.ones(2, 3).squeeze(4)",
    # indices
    "fx.ones(2, 3)[2]",
    "fx.ones(2, 3)[0, -4]",
    "fx.ones(2, 3)[0, 0, 0]",
    "fx.tensor(1.0)[0]",
    "fx.ones(2, 3).select(1, 3)",
    "fx.ones(2, 3).narrow(1, 2, 2)",
    "fx.ones(2, 3).narrow(0, 0, -1)",
    "fx.arange(5)[::0]",
    "fx.ones(5)[fx.tensor([0, 7, 2])]",
    "fx.ones(5)[fx.tensor([1.0])]",
    "fx.ones(5)[fx.tensor([True, False])]",
    "fx.ones(2, 3).index_select(1, fx.tensor([0, 3]))",
    "fx.ones(2, 3).gather(1, fx.tensor([[0, 5]]))",
    "fx.ones(2)['a']",
    "fx.ones(3).__setitem__(5, 1.0)",
    "fx.ones(3).__setitem__(0, fx.ones(2))",
    "fx.ones(3).__setitem__(0, 'x')",
    # dtypes
    "fx.ones(2).bitwise_and(fx.ones(2))",
    "fx.ones(2) & 1",
    "~fx.ones(2)",
    "-fx.tensor([True])",
    "fx.tensor([True]) - fx.tensor([True])",
    "fx.arange(3).mean()",
    "fx.arange(3).var()",
    "fx.arange(3).norm()",
    "fx.arange(3).add_(0.5)",
    "fx.arange(3).div_(2)",
    "fx.add(fx.arange(3), 0.5, out=fx.arange(3))",
    "fx.where(fx.ones(2), 1.0, 0.0)",
    "fx.isclose(fx.ones(2), fx.arange(2))",
    "fx.arange(3) // 0",
    "fx.arange(3) % fx.tensor([1, 0, 2])",
    "fx.arange(3) ** fx.tensor(-1)",
    "fx.arange(3, requires_grad=True)",
    "fx.ones(3).div(2, rounding_mode='up')",
    "fx.ones(2).clamp()",
    "fx.tensor([1.5], dtype=fx.int64).requires_grad_()",
    "fx.set_default_dtype(fx.int32)",
    "fx.finfo(fx.int8)",
    # reductions over nothing
    "fx.ones(0).amax()",
    "fx.ones(2, 0).amin(1)",
    "fx.ones(0).argmax()",
    "fx.ones(0, 3).max(0)",
    # sizes
    "fx.zeros(-1)",
    "fx.zeros(2, -3, 4)",
    "fx.ones(2**40, 2**40)",
    "fx.empty(2**62)",
    "fx.full((2**33, 2**33), 1)",
    "fx.zeros(2**63)",
    "fx.zeros(10**30)",
    "fx.ones(1).expand(2**40, 2**40)",
    "fx.ones(1).expand(2**40, 2**20) + 1",
    "fx.zeros(0, 2**40, 2**40)",
    "fx.arange(0, 10, 0)",
    "fx.arange(0, 10, -1)",
    "fx.arange(float('inf'))",
    "fx.arange(1e300)",
    "fx.linspace(0, 1, -1)",
    "fx.zeros([1] * 17)",
    "fx.ones(2).resize_(-1)",
    "fx.eye(-1)",
    "fx.ones(2).repeat(-1)",
    "fx.ones(4).split(0)",
    "fx.ones(4).chunk(0)",
    # one element
    "bool(fx.ones(2))",
    "bool(fx.ones(0))",
    "fx.ones(2).item()",
    "float(fx.ones(2))",
    "[1, 2][fx.tensor(0.5)]",
    "len(fx.tensor(1.0))",
    "list(fx.tensor(1.0))",
    "int(fx.tensor(float('nan')))",
    "int(fx.tensor(float('inf')))",
    # construction
    "fx.tensor([[1, 2], [3]])",
    "fx.tensor([1, [2]])",
    "fx.tensor('text')",
    "fx.tensor(None)",
    "fx.tensor([1, 'a'])",
    "fx.tensor([300], dtype=fx.uint8)",
    "fx.tensor([float('nan')], dtype=fx.int32)",
    "fx.tensor(2**70)",
    "fx.tensor([1.0], device='cuda')",
    "fx.ones(2).cuda()",
    # writes
    "fx.ones(3, 1).expand(3, 3).add_(1)",
    "(lambda x: x[1:].copy_(x[:-1]))(fx.arange(4))",
    "(lambda x: x[1:].add_(x[:-1]))(fx.arange(4))",
    "fx.ones(2, requires_grad=True).add_(1)",
    "fx.ones(2, requires_grad=True).view(2).add_(1)",
    "fx.add(fx.ones(2, requires_grad=True), 1, out=fx.zeros(2))",
    "fx.ones(2, requires_grad=True).resize_(3)",
    "fx.ones(2, requires_grad=True).numpy()",
    # gradients
    "fx.ones(2).backward()",
    "fx.ones(2, requires_grad=True).backward()",
    "fx.ones(2, requires_grad=True).backward(fx.ones(3))",
    "(lambda y: (y.backward(), y.backward()))((fx.ones(2, requires_grad=True) ** 2).sum())",
    "fx.autograd.grad(fx.ones(1, requires_grad=True) * 2, fx.ones(1, requires_grad=True))",
    "fx.autograd.grad(fx.ones(1, requires_grad=True) * 2, fx.ones(1))",
    "fx.autograd.grad(fx.ones(1, requires_grad=True), [])",
    "(fx.ones(1, requires_grad=True) * 2).requires_grad_(False)",
    "setattr(fx.ones(2, requires_grad=True), 'grad', fx.ones(3))",
    "setattr(fx.ones(2, requires_grad=True), 'grad', 3)",
    "setattr(fx.ones(2, requires_grad=True), 'data', fx.arange(2))",
    "fx.ones(2).register_hook(print)",
    "fx.ones(2).retain_grad()",
    "fx.autograd.Function()",
    "fx.set_num_threads(0)",
    # random numbers
    "fx.randint(3, 3, (2,))",
    "fx.bernoulli(fx.tensor([1.5]))",
    "fx.multinomial(fx.tensor([0.0, 1.0]), 2)",
    "fx.multinomial(fx.tensor([-1.0, 2.0]), 1)",
    "fx.empty(2).uniform_(1, 0)",
    "fx.empty(2).normal_(0, -1)",
    "fx.manual_seed('x')",
]


def text_of(code):
    """ "RuntimeError: add: shapes ...", or what it gave instead."""
    try:
        result = eval(code, {"fx": fx})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"gives {result!r}"


def recorded():
    return json.loads(TEXTS.read_text())


@pytest.mark.parametrize("code", CASES)
def test_text(code):
    assert text_of(code) == recorded()[code]


def test_texts_teach():
    """Texts say more than that something is wrong; none speaks of C++ or of our own invariants."""
    for code, text in recorded().items():
        assert (
            not text.startswith("gives ")
            or "expand" in code
            or "zeros(0" in code
            or "ones(0" in code
        ), (code, text)
        assert "internal error" not in text and "std::" not in text and "bad_alloc" not in text, (
            code,
            text,
        )
        assert len(text) > 30, (code, text)


def test_nan_to_int():
    """The conversion of tensors is documented: NaN and what is out of range become the smallest integer."""
    x = fx.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30, 2.9, -2.9])
    assert x.int().tolist() == [-(2**31)] * 5 + [2, -2]
    assert x.long().tolist() == [-(2**63)] * 5 + [2, -2]
    target = fx.zeros(7, dtype=fx.int64)
    target.copy_(x)
    assert target.tolist() == x.long().tolist()


@pytest.fixture
def little_memory():
    """At most 2 GiB of address space more than now."""
    with open("/proc/self/statm") as f:
        used = int(f.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: fx.empty(1 << 33),
        lambda: fx.zeros(1 << 20, 1 << 13),
        lambda: fx.ones(1).expand(1 << 33) + 1,
        lambda: fx.ones(1 << 16, 1) * fx.ones(1, 1 << 17),
        lambda: fx.ones(1).expand(1 << 33).contiguous(),
        lambda: fx.arange(1 << 33),
        lambda: fx.cat([fx.ones(1).expand(1 << 32)] * 2),
        lambda: fx.rand(1 << 33),
        lambda: fx.ones(4).resize_(1 << 33),
        lambda: fx.empty(0).share_memory_().resize_(1 << 34),
    ],
)
def test_out_of_memory(allocate, little_memory):
    before = fx.arange(10.0, requires_grad=True)
    y = (before * before).sum()
    with pytest.raises(MemoryError, match="memory"):
        allocate()
    y.backward()
    assert before.grad.tolist() == [2.0 * i for i in range(10)]
    assert fx.ones(1000, 1000).sum().item() == 1e6


def test_out_of_memory_in_the_middle_of_a_backward_pass(little_memory):
    x = fx.ones(1, requires_grad=True)
    y = x * 3
    z = y.expand(1 << 30)[:4].sum()  # the gradient of the slice is 4 GiB, nearly all zeros
    with pytest.raises(MemoryError):
        z.backward()
    assert x.grad is None
    y.backward()
    assert x.grad.tolist() == [3]


def test_errors_leave_operands_alone():
    x, y = fx.arange(4.0), fx.arange(3.0)
    version = x._version
    for bad in (
        lambda: x.add_(y),
        lambda: x.copy_(y),
        lambda: x.view(3),
        lambda: fx.add(x, y, out=y),
    ):
        with pytest.raises(RuntimeError):
            bad()
    assert x.tolist() == [0, 1, 2, 3] and y.tolist() == [0, 1, 2] and x._version == version


if __name__ == "__main__":
    if "--record" not in sys.argv:
        sys.exit(__doc__)
    TEXTS.write_text(
        json.dumps({code: text_of(code) for code in CASES}, indent=1, ensure_ascii=False) + "\n"
    )
