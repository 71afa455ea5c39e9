"""Time and memory of `import fluxion` over a bare Python, each in fresh processes."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

CHILD = """
import sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
for line in open("/proc/self/status"):
    if line.startswith("VmRSS"):
        kilobytes = int(line.split()[1])
print(seconds, kilobytes, int("numpy" in sys.modules))
"""


def measure(statement, times=15):
    """Least seconds and kilobytes of `times` processes; whether NumPy came along."""
    command = [sys.executable, "-c", CHILD.format(statement=statement)]
    runs = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        for _ in range(times)
    ]
    seconds, kilobytes, numpy = zip(*(map(float, r) for r in runs), strict=True)
    return min(seconds), min(kilobytes), any(numpy)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    _, bare, _ = measure("pass")
    seconds, kilobytes, numpy = measure("import fluxion")
    torch_seconds, torch_kilobytes, _ = measure("import torch", times=3)
    megabytes, torch_megabytes = (kilobytes - bare) / 1024, (torch_kilobytes - bare) / 1024
    print(f"import fluxion: {seconds * 1e3:.1f} ms (target 30), torch {torch_seconds * 1e3:.0f} ms")
    print(
        f"memory over bare Python: {megabytes:.1f} MB (target 30), torch {torch_megabytes:.0f} MB"
    )
    print(f"NumPy loaded by import: {'yes  <--' if numpy else 'no'}")
    if args.json:
        rows = [
            {"case": "import, ms", "threads": "", "fluxion": seconds * 1e3,
             "torch": torch_seconds * 1e3, "ratio": seconds / torch_seconds, "limit": 30},
            {"case": "import, MB over bare Python", "threads": "", "fluxion": megabytes,
             "torch": torch_megabytes, "ratio": megabytes / torch_megabytes, "limit": 30},
        ]  # fmt: skip
        args.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
