"""Compiled training steps against our eager ones, first calls against torch.compile's, and the overhead of a call.

The column "torch" holds eager Fluxion for steps, and torch.compile for first calls.
"""

import time

import torch

import fluxion
import harness
import train_step

TARGETS = {"MLP": 0.8, "GPT": 0.97, "CNN": 1.0}


def first_call(lib, build, optimizer, options):
    """Seconds of the first call of a compiled step, and of a step without compile."""
    plain = train_step.step_of(lib, build, optimizer, **options)
    plain(), plain()
    start = time.perf_counter()
    plain()
    eager = time.perf_counter() - start
    compiled = lib.compile(train_step.step_of(lib, build, optimizer, **options))
    start = time.perf_counter()
    compiled()
    return time.perf_counter() - start, eager


def steps():
    for name, build, optimizer, options, _ in train_step.CASES:
        eager = train_step.step_of(fluxion, build, optimizer, **options)
        compiled = fluxion.compile(train_step.step_of(fluxion, build, optimizer, **options))
        for _ in range(3):
            compiled()
        harness.compare(f"{name}: compiled / eager", compiled, eager, TARGETS[name[:3]])


def first_calls():
    for name, build, optimizer, options, _ in train_step.CASES:
        case = f"{name}: first call"
        if harness.options.only not in case:
            continue
        ours, eager = first_call(fluxion, build, optimizer, options)
        theirs, _ = first_call(torch, build, optimizer, options)
        harness.record(
            case, harness.options.current, ours, theirs, 1 / 200, ours / theirs, ours / theirs
        )
        print(f"  {ours / eager:.1f} times one eager step (target 5)")


def overhead():
    """A call of nothing but tensors, and what each further step of a program costs."""
    x = fluxion.ones(4)

    def chain(n):
        def f(x):
            for _ in range(n):
                x = x.neg()
            return x

        compiled = fluxion.compile(f)
        compiled(x)
        return compiled

    short, long = chain(1), chain(1001)
    times = [min(s) for s in harness.alternate([lambda: short(x), lambda: long(x)], 0.5)]
    print(
        f"one call {times[0] * 1e9:.0f} ns (target 3000), each step {(times[1] - times[0]) * 1e6:.0f} ns (target 60)"
    )


def run():
    steps()
    if harness.options.current == 1:
        overhead()
        first_calls()


if __name__ == "__main__":
    harness.main(run, __doc__)
