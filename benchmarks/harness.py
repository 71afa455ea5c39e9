"""Times Fluxion and PyTorch in one process, in alternating short batches, and prints the ratio.

Machines change speed by the second, so only minima of interleaved batches compare well; the median shows
how noisy the run was. A program calls `compare` for each case inside a function given to `main`.
"""

import argparse
import gc
import json
import statistics
import time
from pathlib import Path

HEADER = ("case", "threads", "fluxion", "torch", "ratio", "median", "target")
WIDTHS = (40, 7, 14, 14, 7, 7, 7)
BATCH_SECONDS = 0.004
results = []
options = argparse.Namespace(seconds=1.0, threads="1,2", only="")


def say(row):
    cells = (
        f"{c:>{w}}" if i else f"{c:<{w}}" for i, (c, w) in enumerate(zip(row, WIDTHS, strict=True))
    )
    print("  ".join(cells), flush=True)


def readable(seconds):
    for unit, scale in (("ns", 1e9), ("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def batch_size(function):
    """Calls that take about BATCH_SECONDS together; also warms up."""
    count = 1
    while True:
        elapsed = time_batch(function, count)
        if elapsed >= BATCH_SECONDS / 2:
            return max(1, round(count * BATCH_SECONDS / elapsed))
        count *= 4


def time_batch(function, count):
    calls = range(count)
    start = time.perf_counter()
    for _ in calls:
        function()
    return time.perf_counter() - start


def alternate(functions, seconds):
    """Seconds per call of each function, a list of samples each; at least seven rounds."""
    counts = [batch_size(f) for f in functions]
    samples = [[] for _ in functions]
    gc.collect()
    gc.disable()
    deadline = time.perf_counter() + seconds
    while len(samples[0]) < 7 or time.perf_counter() < deadline:
        for function, count, times in zip(functions, counts, samples, strict=True):
            time.sleep(0.002)  # lets the other library's spinning threads go to sleep
            time_batch(function, max(1, count // 4))
            times.append(time_batch(function, count) / count)
    gc.enable()
    return samples


def record(case, threads, ours, theirs, target, ratio, median, flops=None):
    rate = (lambda t: f"{flops / t / 1e9:.1f} GF/s") if flops else readable
    missed = target is not None and ratio > target
    results.append(
        {"case": case, "threads": threads, "fluxion": ours, "torch": theirs, "ratio": ratio,
         "median_ratio": median, "target": target, "flops": flops}
    )  # fmt: skip
    say(
        (case, threads, rate(ours), rate(theirs), f"{ratio:.3f}", f"{median:.3f}",
         "" if target is None else f"{target:g}{'  <--' if missed else ''}")
    )  # fmt: skip


def compare(case, ours, theirs, target=None, flops=None):
    """One row: time of `ours` over time of `theirs`, which do the same work; smaller is better."""
    if options.only not in case:
        return
    mine, other = alternate([ours, theirs], options.seconds)
    record(
        case, options.current, min(mine), min(other), target, min(mine) / min(other),
        statistics.median(mine) / statistics.median(other), flops,
    )  # fmt: skip


def set_threads(count):
    import torch

    import fluxion

    options.current = count
    fluxion.set_num_threads(count)
    torch.set_num_threads(count)


def main(run, doc):
    """Parses the common options and runs the cases once per thread count."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--threads", default="1,2", help="thread counts (1,2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="time per case (1)")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains TEXT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.parse_args(namespace=options)
    say(HEADER)
    for count in map(int, options.threads.split(",")):
        set_threads(count)
        run()
    if options.json:
        options.json.write_text(json.dumps(results))
