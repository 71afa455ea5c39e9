"""Loading and saving 500 MB: Fluxion, the safetensors package, and the disk itself, in turns.

usage: python benchmarks/files.py [--folder DIR] [--json FILE]
Every save ends with an fsync, the peer's too; the disk's own speed is one file written in one piece.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import safetensors.numpy

import fluxion

TENSORS, ELEMENTS = 125, 1_000_000
MEGABYTES = TENSORS * ELEMENTS * 4 / 1e6
LOAD_LIMIT_MS, SAVE_LIMIT_RATIO = 5, 1.1


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def write_raw(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def save_peer(path, arrays):
    safetensors.numpy.save_file(arrays, path)
    sync(path)


def touch(tensors):
    """Reads every page."""
    return sum(float(t.view(-1)[::1024].sum()) for t in tensors.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    tensors = {f"layers.{i}.weight": fluxion.randn(1000, 1000) for i in range(TENSORS)}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    data = memoryview(bytearray(int(MEGABYTES * 1e6)))
    seconds = {}

    def record(name, function):
        elapsed, result = timed(function)
        seconds.setdefault(name, []).append(elapsed)
        return result

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        ours, theirs, raw = (os.path.join(folder, name) for name in ("ours", "theirs", "raw"))
        for _ in range(3):
            record("save", lambda: fluxion.save(tensors, ours))
            record("save, safetensors", lambda: save_peer(theirs, arrays))
            record("save, disk", lambda: write_raw(raw, data))
        for _ in range(5):
            loaded = record("load", lambda: fluxion.load(ours))
            record("read after load", lambda loaded=loaded: touch(loaded))
            record("load, safetensors", lambda: safetensors.numpy.load_file(theirs))
    best = {name: min(times) for name, times in seconds.items()}
    for name, times in seconds.items():
        print(
            f"{name:20} {min(times) * 1e3:9.2f} ms   median {statistics.median(times) * 1e3:9.2f}"
        )
    disk = statistics.median(
        a / b for a, b in zip(seconds["save"], seconds["save, disk"], strict=True)
    )
    print(f"load: {best['load'] * 1e3:.2f} ms (target {LOAD_LIMIT_MS}), "
          f"{best['load'] / best['load, safetensors']:.4f} of safetensors")  # fmt: skip
    print(f"save: {disk:.2f} of the disk's own time (target {SAVE_LIMIT_RATIO}), "
          f"{best['save'] / best['save, safetensors']:.2f} of safetensors")  # fmt: skip
    if args.json:
        rows = [
            {"case": f"load {MEGABYTES:.0f} MB, ms (peer: safetensors)", "threads": "",
             "fluxion": best["load"] * 1e3, "torch": best["load, safetensors"] * 1e3,
             "ratio": best["load"] / best["load, safetensors"], "limit": LOAD_LIMIT_MS},
            {"case": f"save {MEGABYTES:.0f} MB, of the disk's time (peer: safetensors)",
             "threads": "", "fluxion": disk,
             "torch": best["save, safetensors"] / best["save, disk"],
             "ratio": best["save"] / best["save, safetensors"], "limit": SAVE_LIMIT_RATIO},
        ]  # fmt: skip
        args.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
