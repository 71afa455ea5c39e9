"""C++ modules and Python modules: the same initial bits, forward bits, gradients and training step."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

import fluxion as fx
from fluxion import nn

PROGRAM = Path(__file__).parents[2] / "build/release/bin/module_bits"


def bits(tensor):
    return np.ascontiguousarray(tensor.detach().numpy()).tobytes().hex()


def wave(*shape):
    return fx.arange(float(np.prod(shape))).sin().reshape(shape)


ROWS, IMAGE = wave(4, 6), wave(2, 3, 8, 8)
CASES = {
    "Linear": (ROWS, lambda: nn.Linear(6, 5)),
    "LinearNoBias": (ROWS, lambda: nn.Linear(6, 5, bias=False)),
    "Conv2d": (IMAGE, lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1)),
    "BatchNorm1d": (ROWS, lambda: nn.BatchNorm1d(6)),
    "BatchNorm2d": (IMAGE, lambda: nn.BatchNorm2d(3)),
    "LayerNorm": (ROWS, lambda: nn.LayerNorm(6)),
    "Dropout": (ROWS, lambda: nn.Dropout(0.5)),
    "ReLU": (ROWS, nn.ReLU),
    "GELU": (ROWS, nn.GELU),
    "SiLU": (ROWS, nn.SiLU),
    "MaxPool2d": (IMAGE, lambda: nn.MaxPool2d(2)),
    "Embedding": (fx.arange(5), lambda: nn.Embedding(10, 3)),
    "Sequential": (ROWS, lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))),
}


def python_bits(name):
    x, make = CASES[name]
    fx.manual_seed(7)
    module = make()
    found = {f"{name}.init.{key}": bits(t) for key, t in module.state_dict().items()}
    y = module(x)
    found[f"{name}.forward"] = bits(y)
    if not list(module.parameters()):
        return found
    optimizer = fx.optim.Adam(module.parameters(), lr=0.1)
    (y * y).sum().backward()
    found |= {f"{name}.grad.{key}": bits(p.grad) for key, p in module.named_parameters()}
    optimizer.step()
    found |= {f"{name}.stepped.{key}": bits(t) for key, t in module.state_dict().items()}
    module.eval()
    found[f"{name}.eval"] = bits(module(x))
    return found


@pytest.fixture(scope="module")
def cpp_bits():
    if not PROGRAM.exists():
        pytest.fail(f"{PROGRAM} is missing: run `make build`")
    printed = subprocess.run([PROGRAM], check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ") for line in printed.splitlines())


@pytest.mark.parametrize("name", CASES)
def test_module(name, cpp_bits):
    mine = {key: value for key, value in cpp_bits.items() if key.split(".")[0] == name}
    assert mine == python_bits(name)


def test_every_case_is_compared(cpp_bits):
    assert {key.split(".")[0] for key in cpp_bits} == set(CASES)
