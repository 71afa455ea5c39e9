"""Builds the wheel and says how large it is and whether anything of LLVM is inside."""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_MB = 15


def build(folder):
    """The wheel of this tree, built with the tools of .venv."""
    pip = [
        ROOT / ".venv/bin/python",
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
    ]
    subprocess.run([*pip, "-w", folder, ROOT], check=True)
    return next(Path(folder).glob("*.whl"))


def mentions_llvm(wheel):
    """Members that need libLLVM or define or use its symbols."""
    with zipfile.ZipFile(wheel) as archive:
        return [
            name
            for name in archive.namelist()
            if ".so" in name and any(s in archive.read(name) for s in (b"libLLVM", b"_ZN4llvm"))
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(folder)
        megabytes, llvm = wheel.stat().st_size / 2**20, mentions_llvm(wheel)
        print(f"{wheel.name}: {megabytes:.2f} MB (target {LIMIT_MB})")
    print(f"LLVM inside: {', '.join(llvm) or 'no'}")
    if args.json:
        row = {"case": "wheel, MB", "threads": "", "fluxion": megabytes, "limit": LIMIT_MB}
        args.json.write_text(json.dumps([row]))
    return bool(llvm) or megabytes > LIMIT_MB


if __name__ == "__main__":
    sys.exit(main())
