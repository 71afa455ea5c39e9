"""A whole training step: forward, loss, zero_grad, backward, optimizer."""

import torch

import fluxion
import harness
import models


def step_of(lib, build, optimizer, **options):
    lib.manual_seed(0)
    model, x, y = build(lib)
    optimizer = getattr(lib.optim, optimizer)(model.parameters(), **options)

    def step():
        loss = lib.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


CASES = [
    ("MLP 784-128-64-10 b64, Adam", models.mlp, "Adam", {"lr": 1e-3}, 0.5),
    ("GPT 4 x 128 b12 t64, AdamW", models.gpt, "AdamW", {"lr": 1e-3, "weight_decay": 0.1}, 0.85),
    ("CNN 32, 64, pool, 128, 10 b64, Adam", models.cnn, "Adam", {"lr": 1e-3}, 0.95),
]


def run():
    for name, build, optimizer, options, target in CASES:
        ours, theirs = (step_of(lib, build, optimizer, **options) for lib in (fluxion, torch))
        harness.compare(name, ours, theirs, target)


if __name__ == "__main__":
    harness.main(run, __doc__)
