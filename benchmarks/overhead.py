"""What an op costs beside its arithmetic: tiny tensors from Python."""

import torch

import fluxion
import harness


def setup(lib):
    """The cases of one library, by name."""
    lib.manual_seed(0)
    a, b, square = lib.randn(16), lib.randn(16), lib.randn(4, 4)
    leaf = lib.randn(16, requires_grad=True)
    parameters = [lib.nn.Parameter(lib.randn(16)) for _ in range(6)]
    for p in parameters:
        p.grad = lib.randn(16)
    adam = lib.optim.Adam(parameters, lr=1e-3)

    def chain():
        leaf.grad = None
        y = leaf
        for _ in range(100):
            y = y * 1.01
        y.sum().backward()

    return {
        "a + b, 16 floats": lambda: a + b,
        "a * 1.01": lambda: a * 1.01,
        "x[0]": lambda: square[0],
        "x.view(-1)": lambda: square.view(-1),
        "x.sum()": lambda: square.sum(),
        "100 muls, forward and backward": chain,
        "Adam step, 6 tensors of 16": adam.step,
    }


TARGETS = {
    "a + b, 16 floats": 0.08,
    "x[0]": 0.08,
    "x.view(-1)": 0.08,
    "100 muls, forward and backward": 0.03,
    "Adam step, 6 tensors of 16": 0.01,
}


def run():
    theirs = setup(torch)
    for name, ours in setup(fluxion).items():
        harness.compare(name, ours, theirs[name], TARGETS.get(name))


if __name__ == "__main__":
    harness.main(run, __doc__)
