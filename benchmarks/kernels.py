"""The hot kernels at sizes of real models, float32, forward only."""

import torch

import fluxion
import harness


def cases(lib):
    F = lib.nn.functional
    x = lib.randn(4096, 1024)
    q, k, v = (lib.randn(1, 12, 512, 64) for _ in range(3))
    image, weight = lib.randn(1, 64, 56, 56), lib.randn(64, 64, 3, 3)
    return {
        "softmax 4096 x 1024": lambda: F.softmax(x, dim=-1),
        "layer_norm 4096 x 1024": lambda: F.layer_norm(x, (1024,)),
        "gelu 4096 x 1024": lambda: F.gelu(x),
        "causal attention 12 x 512 x 64": lambda: F.scaled_dot_product_attention(
            q, k, v, is_causal=True
        ),
        "conv 64 x 56 x 56, 3 x 3": lambda: F.conv2d(image, weight, padding=1),
    }


def run():
    theirs = cases(torch)
    for name, ours in cases(fluxion).items():
        harness.compare(name, ours, theirs[name], 1.1 if name.startswith("conv") else 0.8)


if __name__ == "__main__":
    with fluxion.no_grad(), torch.no_grad():
        harness.main(run, __doc__)
