"""Writes docs/op-matrix.md: every op and dtype on every path, from running the op table's own samples.

Run `python tools/generate_matrix.py` after a change of the op table; `--check` only compares.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST = ROOT / "build/release/bin/op_matrix_test"
PAGE = ROOT / "docs/op-matrix.md"


def made_page():
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.md"
        command = [TEST, "--gtest_brief=1"]
        subprocess.run(command, check=True, env=os.environ | {"FLUXION_MATRIX_PAGE": str(page)})
        return page.read_text()


def main():
    page = made_page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit(f"{PAGE.relative_to(ROOT)} is stale: run python tools/generate_matrix.py")


if __name__ == "__main__":
    main()
