"""repr() of tensors against PyTorch's (recorded by tests/tools/record_print.py), and what is ours in it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import fluxion as fx

CASES = json.loads((Path(__file__).parent / "data/print_cases.json").read_text())["cases"]


@pytest.fixture(autouse=True)
def default_options():
    yield
    fx.set_printoptions(profile="default")


def name_of(case):
    options = (
        ""
        if case["options"]["precision"] == 4 and case["options"]["threshold"] == 1000
        else "-options"
    )
    return f"{case['dtype']}-{'x'.join(map(str, case['shape'])) or '0-dim'}{options}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_like_pytorch(case):
    n = math.prod(case["shape"])
    values = np.array(
        [case["values"][i % len(case["values"])] + case["step"] * i for i in range(n)]
    )
    whole = case["dtype"].startswith(("int", "uint"))
    t = fx.from_numpy(values.astype(np.int64 if whole else np.float64).reshape(case["shape"]))
    t = t.to(getattr(fx, case["dtype"]))
    if case["requires_grad"]:
        t.requires_grad_()
    fx.set_printoptions(**case["options"])
    assert repr(t) == case["text"]


def test_history_is_shown():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    assert repr(x * 2) == "tensor([2., 4.], grad_fn=<MulBackward0>)"
    assert repr((x * 2).sum()) == "tensor(6., grad_fn=<ReduceSumBackward0>)"
    assert repr(x.detach()) == "tensor([1., 2.])"


def test_strides_do_not_show():
    x = fx.arange(6.0).view(2, 3)
    assert repr(x.t()) == repr(x.t().contiguous())
    assert repr(x[::-1, ::2]) == "tensor([[3., 5.],\n        [0., 2.]])"


def test_str_format_and_conversion():
    x = fx.tensor([1.5])
    assert str(x) == repr(x) == f"{x}" == "tensor([1.5000])"
    assert (
        f"{fx.tensor(3.14159):.2f}" == "3.14"
        and f"{fx.tensor(7):03d}" == "007"
        and f"{fx.tensor(True)}" == "True"
    )
    assert float(x) == 1.5 and int(x) == 1 and bool(x) and not fx.tensor(0.0)
    assert [1, 2, 3][fx.tensor(1)] == 2 and x.item() == 1.5 and isinstance(fx.tensor(3).item(), int)
    with pytest.raises(TypeError):
        f"{fx.tensor([1.0, 2.0]):.2f}"


def test_profiles():
    x = fx.tensor([1 / 3, 2 / 3])
    fx.set_printoptions(profile="short")
    assert repr(x) == "tensor([0.33, 0.67])"
    fx.set_printoptions(profile="full")
    assert "..." not in repr(fx.arange(5000))
    fx.set_printoptions(profile="default")
    assert "..." in repr(fx.arange(5000))
    with pytest.raises(ValueError):
        fx.set_printoptions(profile="nonsense")


def test_other_objects():
    assert (
        repr(fx.float32) == "fluxion.float32"
        and repr(fx.zeros(2, 3).shape) == "fluxion.Size([2, 3])"
    )
    assert repr(fx.device("cpu")) == "device(type='cpu')"
