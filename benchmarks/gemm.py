"""Matrix products in float32, M x K times K x N."""

import torch

import fluxion
import harness

SHAPES = [(256, 256, 256), (1024, 1024, 1024), (4096, 768, 3072), (16, 768, 3072), (64, 784, 128)]


def product(lib, m, k, n):
    a, b = lib.randn(m, k), lib.randn(k, n)
    return lambda: a @ b


def run():
    for m, k, n in SHAPES:
        ours, theirs = (product(lib, m, k, n) for lib in (fluxion, torch))
        harness.compare(f"matmul {m} x {k} x {n}", ours, theirs, 1.053, flops=2 * m * k * n)


if __name__ == "__main__":
    harness.main(run, __doc__)
