"""Every example of README.md and docs/*.md runs, and prints what the page says it prints.

A page's ```python blocks run in order in one namespace; a ```text block right after one is its output.
Blocks with `>>>` are doctests. A ```cpp block with a main() is compiled against the built library.
"""

import contextlib
import doctest
import importlib
import io
import itertools
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

import fluxion

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(text):
    """(line, language, code, expected output or None) of each python and cpp block."""
    blocks = list(BLOCK.finditer(text))
    for block, after in itertools.zip_longest(blocks, blocks[1:]):
        if block[1] not in ("python", "cpp"):
            continue
        adjacent = after and after[1] == "text" and not text[block.end() : after.start()].strip()
        line = text.count("\n", 0, block.start()) + 2
        yield line, block[1], block[2], after[2] if adjacent else None


def run_doctest(code, namespace, page, line):
    test = doctest.DocTestParser().get_doctest(code, namespace, page.name, str(page), line - 1)
    report = io.StringIO()
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.write, clear_globs=False)
    namespace.update(test.globs)
    return report.getvalue()


def run_python(code, namespace, page, line):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)
    return printed.getvalue()


def run_cpp(code, folder):
    (folder / "example.cpp").write_text(code)
    package = ROOT / "python/fluxion"
    command = [
        "g++",
        "-std=c++20",
        "-O1",
        "-DFMT_HEADER_ONLY",
        f"-I{ROOT}",
        f"-I{ROOT / 'include'}",
    ]
    link = [f"-L{package}", "-lfluxion", f"-Wl,-rpath,{package}", "-o", "example"]
    subprocess.run([*command, "example.cpp", *link], cwd=folder, check=True)
    return subprocess.run([folder / "example"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page(page, tmp_path):
    namespace = {"__name__": "__main__"}
    for line, language, code, expected in examples(page.read_text()):
        where = f"{page.relative_to(ROOT)}:{line}"
        if language == "cpp":
            if "int main(" not in code:
                continue
            printed = run_cpp(code, tmp_path)
        elif ">>>" in code:
            failures = run_doctest(code, namespace, page, line)
            assert not failures, f"{where}\n{failures}"
            continue
        else:
            printed = run_python(code, namespace, page, line)
        if expected is not None:
            assert printed.rstrip() == expected.rstrip(), where


def test_examples_in_docstrings():
    """Every `>>>` of the package."""
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=FLAGS)
    names = [m.name for m in pkgutil.walk_packages(fluxion.__path__, "fluxion.")]
    for name in names:
        if name == "fluxion.libfluxion":  # no module
            continue
        module = importlib.import_module(name)
        for test in finder.find(module, globs={"fluxion": fluxion, "nn": fluxion.nn}):
            runner.run(test)
    assert runner.failures == 0
    assert runner.tries > 0


def test_the_runner_sees_wrong_output():
    text = "```python\nprint(1)\n```\n```text\n2\n```\n"
    ((line, language, code, expected),) = examples(text)
    assert (line, language, expected) == (2, "python", "2\n")
    assert run_python(code, {}, Path("x.md"), line) == "1\n"
    assert "Expected" in run_doctest(">>> 1 + 1\n3\n", {}, Path("x.md"), 1)
