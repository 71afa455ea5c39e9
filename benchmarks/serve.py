"""CPU time of the model server per request: identity of 4 floats as JSON, 64 connections."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent / "build/release/bin/benchmark_serve"
LIMIT_US = 25


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    out = subprocess.run([PROGRAM, str(args.seconds)], check=True, capture_output=True, text=True)
    r = json.loads(out.stdout)
    print(
        f"server {r['cpu_us']:.1f} us of CPU per request (target {LIMIT_US}), "
        f"{r['requests_per_second']:.0f} requests/s"
    )
    print(
        f"floor  {r['floor_cpu_us']:.1f} us, {r['floor_requests_per_second']:.0f} requests/s: "
        f"reads and writes the same bytes; ratio {r['cpu_us'] / r['floor_cpu_us']:.2f}"
    )
    if args.json:
        row = {"case": "serve 4 floats as JSON, us", "threads": "", "fluxion": r["cpu_us"]}
        args.json.write_text(json.dumps([row | {"limit": LIMIT_US}]))
    return r["cpu_us"] > LIMIT_US


if __name__ == "__main__":
    sys.exit(main())
