"""Runs every benchmark, each in a process of its own, and prints one table.

usage: python benchmarks/run.py [--write] [--seconds S] [NAME ...]
--write puts the table between the markers of docs/performance.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import readable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = ROOT / "docs/performance.md"
EAGER = ROOT / "build/release/bin/benchmark_eager"
PROGRAMS = [
    "overhead", "train_step", "gemm", "kernels", "serve", "import_time", "wheel", "files"
]  # fmt: skip
MARKERS = "<!-- results -->", "<!-- end of results -->"
TIMED = {"overhead", "train_step", "gemm", "kernels", "serve"}
LIMIT_NS = {"add": 80}


def run_python(name, seconds):
    print(f"\n== {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "results.json"
        command = [sys.executable, HERE / f"{name}.py", "--json", report]
        command += ["--seconds", str(seconds)] if name in TIMED else []
        status = subprocess.run(command, cwd=HERE).returncode
        if not report.exists():
            print(f"{name} failed with status {status}")
            return []
        return json.loads(report.read_text())


def run_cpp():
    """Google Benchmark's rows, in nanoseconds."""
    if not EAGER.exists():
        return []
    print("\n== C++", flush=True)
    command = [EAGER, "--benchmark_format=json", "--benchmark_repetitions=5"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    best = {}
    for row in json.loads(out)["benchmarks"]:
        if row["run_type"] == "iteration":
            time = 1e9 / row["items_per_second"] if "items_per_second" in row else row["cpu_time"]
            best[row["name"]] = min(time, best.get(row["name"], time))
    for name, time in best.items():
        print(f"{name:24} {time:8.1f} ns")
    return [
        {"case": f"C++ {n}, ns", "threads": 1, "fluxion": t, "limit": LIMIT_NS.get(n)}
        for n, t in best.items()
    ]


def cells(row):
    """One table row: times or rates, ratio, target, and a mark where the target is missed."""
    show = "{:.3g}".format
    if "limit" in row:
        limit = row["limit"]
        target, missed = "" if limit is None else f"<= {limit}", limit and row["fluxion"] > limit
    else:
        target, missed = row["target"] or "", row["target"] and row["ratio"] > row["target"]
        flops = row["flops"]
        show = (lambda t: f"{flops / t / 1e9:.0f} GF/s") if flops else readable
    torch = show(row["torch"]) if "torch" in row else ""
    ratio = f"{row['ratio']:.3f}" if "ratio" in row else ""
    median = f"{row['median_ratio']:.3f}" if "median_ratio" in row else ""
    mark = "missed" if missed else ""
    return [row["case"], row["threads"], show(row["fluxion"]), torch, ratio, median, target, mark]


def table(rows):
    head = ["case", "threads", "Fluxion", "PyTorch", "ratio", "of medians", "target", ""]
    lines = [head, ["---"] * len(head), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def machine():
    names = [line for line in open("/proc/cpuinfo") if line.startswith("model name")]
    model = names[0].split(":")[1].strip() if names else platform.machine()
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def write_page(text):
    page = PAGE.read_text()
    start, end = page.index(MARKERS[0]) + len(MARKERS[0]), page.index(MARKERS[1])
    PAGE.write_text(f"{page[:start]}\n{text}\n{page[end:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(["cpp", *PROGRAMS]))
    parser.add_argument("--seconds", type=float, default=1.0, help="time per case (1)")
    parser.add_argument("--write", action="store_true", help=f"update {PAGE.name}")
    args = parser.parse_args()
    names = args.names or ["cpp", *PROGRAMS]
    rows = []
    for name in names:
        rows += run_cpp() if name == "cpp" else run_python(name, args.seconds)
    text = f"{machine()}\n\n{table(rows)}"
    print(f"\n{text}")
    if args.write:
        write_page(text)


if __name__ == "__main__":
    main()
