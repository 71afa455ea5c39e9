"""Runs test suites and ends with the sum, "N passed, N failed".

usage: python tools/run_tests.py [release|asan|tsan|python|lint|generated|package ...]
Without arguments: everything but tsan. The trees must have been built (`make test` does).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"suppressions={ROOT / 'tests/tsan.supp'}",
}


def run(*command, **options):
    return subprocess.run([str(c) for c in command], cwd=ROOT, **options)


def count_report(path):
    """Passed and failed cases of one JUnit-like report (GoogleTest's or pytest's)."""
    passed = failed = 0
    for case in xml.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is None and case.get("status") != "notrun":
            passed += 1
    return passed, failed


def cpp(preset):
    reports = ROOT / "build" / preset / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    env = os.environ | (SANITIZERS if preset != "release" else {})
    ok = run("ctest", "--preset", preset, "-j", os.cpu_count() or 2, env=env).returncode == 0
    counts = [count_report(r) for r in sorted(reports.glob("*.xml"))]
    passed, failed = (sum(c) for c in zip(*counts, strict=True)) if counts else (0, 0)
    # A program that crashed left no report; a build without tests is a fault as well.
    return passed, failed or int(not ok or not counts)


def python():
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "pytest.xml"
        status = run(BIN / "python", "-m", "pytest", "-q", f"--junitxml={report}").returncode
        passed, failed = count_report(report) if report.exists() else (0, 0)
    return passed, failed or int(status != 0)  # 5: no tests collected


def checks(commands):
    passed = failed = 0
    for name, command in commands.items():
        start = time.monotonic()
        result = run(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ok = result.returncode == 0
        passed, failed = passed + ok, failed + (not ok)
        print(f"{'ok    ' if ok else 'FAILED'} {name} ({time.monotonic() - start:.1f} s)")
        if not ok:
            print("\n".join(result.stdout.splitlines()[-40:]), flush=True)
    return passed, failed


def sources(*suffixes):
    """Files git knows or would add."""
    listed = run("git", "ls-files", "-co", "--exclude-standard", stdout=subprocess.PIPE, text=True)
    return [f for f in listed.stdout.split() if f.endswith(suffixes) and (ROOT / f).exists()]


def lint():
    return checks(
        {
            "include directions": [BIN / "python", "tools/lint_includes.py"],
            "clang-format": [BIN / "clang-format", "--dry-run", "-Werror", *sources(".h", ".cpp")],
            "ruff format": [BIN / "ruff", "format", "--no-cache", "--check", *sources(".py")],
            "ruff": [BIN / "ruff", "check", "--no-cache", "-q", *sources(".py")],
            "mypy on stubs": [BIN / "mypy", f"--cache-dir={os.devnull}"],
            "shell syntax": ["bash", "-n", "tools/setup.sh", ".ci/run"],
        }
    )


def generated():
    """Every generator of a checked-in file finds that file as it would write it."""
    tools = sorted((ROOT / "tools").glob("generate_*.py"))
    return checks({t.name: [BIN / "python", t, "--check"] for t in tools})


def package():
    """A user's project finds, builds against and runs the installed library."""
    with tempfile.TemporaryDirectory() as folder:
        prefix, build = Path(folder) / "prefix", Path(folder) / "build"
        install = ["cmake", "--install", "build/release", "--prefix", prefix]
        configure = ["cmake", "-G", "Ninja", "-S", "tests/package", "-B", build]
        return checks(
            {
                "install": [*install, "--component", "development"],
                "find_package": [*configure, f"-DCMAKE_PREFIX_PATH={prefix}"],
                "build against it": ["cmake", "--build", build],
                "run": [build / "consumer"],
            }
        )


SUITES = {
    "lint": lint,
    "generated": generated,
    "release": lambda: cpp("release"),
    "asan": lambda: cpp("asan"),
    "tsan": lambda: cpp("tsan"),
    "package": package,
    "python": python,
}


def main(names):
    unknown = set(names) - set(SUITES)
    if unknown:
        sys.exit(f"unknown suite {', '.join(sorted(unknown))}; there are: {', '.join(SUITES)}")
    totals = {}
    for name in names or [s for s in SUITES if s != "tsan"]:
        print(f"\n== {name}", flush=True)
        try:
            totals[name] = SUITES[name]()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"FAILED {name}: {error}")
            totals[name] = (0, 1)
    print()
    for name, (passed, failed) in totals.items():
        print(f"{name:10} {passed:6} passed {failed:4} failed")
    failures = sum(f for _, f in totals.values())
    print(f"\n{sum(p for p, _ in totals.values())} passed, {failures} failed")
    return failures != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
