"""The include lint finds what it is there to find."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/lint_includes.py"
spec = importlib.util.spec_from_file_location("lint_includes", TOOL)
lint_includes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lint_includes)

CLEAN = {
    "kernels/kernel.h": "#pragma once\n#include <cstdint>\n",
    "base/error.h": "#pragma once\n#include <string>\n",
    "tensor/tensor.h": '#pragma once\n#include "base/error.h"\n#include "kernels/kernel.h"\n',
    "tensor/threads.cpp": "#include <tbb/parallel_for.h>\n",
    "loops/llvm/emit.cpp": "#include <llvm/IR/Module.h>\n",
    "serve/json.cpp": "#include <simdjson.h>\n#include <boost/asio.hpp>\n",
    "serve/model.h": '#pragma once\n#include "tensor/tensor.h"\n',
    "python/src/module.cpp": '#include <Python.h>\n#include "tensor/tensor.h"\n',
}


def faults(tmp_path, changes=None):
    for path, text in (CLEAN | (changes or {})).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return lint_includes.lint(tmp_path)


def test_clean_tree(tmp_path):
    assert faults(tmp_path) == []


def test_this_tree():
    assert lint_includes.lint(TOOL.parents[1]) == []


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("base/bad.cpp", '#include "tensor/tensor.h"\n', "upward"),
        ("kernels/bad.cpp", '#include "base/error.h"\n', "upward"),
        ("kernels/bad.cpp", "#include <vector>\n", "freestanding"),
        ("ops/bad.cpp", "\n#include <llvm/IR/Type.h>\n", "ops/bad.cpp:2: LLVM header"),
        ("loops/llvm/emit.h", "#pragma once\n#include <llvm/IR/Type.h>\n", "LLVM header"),
        ("ops/bad.cpp", "#include <tbb/tbb.h>\n", "TBB header"),
        ("nn/bad.cpp", "#include <nanobind/nanobind.h>\n", "nanobind header"),
        ("nn/bad.cpp", "#include <boost/asio.hpp>\n", "Boost header"),
        ("serve/bad.h", "#pragma once\n#include <boost/asio.hpp>\n", "Boost header"),
        ("serve/bad.h", "#pragma once\n#include <simdjson.h>\n", "JSON header"),
        ("tensor/bad.cpp", '#include "serve/model.h"\n', "upward"),
        ("ops/bad.cpp", '#include "../tensor/tensor.h"\n', "relative to the root"),
        ("ops/bad.cpp", '#include "ops/none.h"\n', "does not exist"),
        ("base/error.h", "#include <string>\n", "no #pragma once"),
        ("base/error.h", '#pragma once\n#include "base/error.h"\n', "include cycle"),
    ],
)
def test_faults(tmp_path, path, text, fault):
    found = faults(tmp_path, {path: text})
    assert len(found) == 1, found
    assert fault in found[0]


def test_longer_cycle(tmp_path):
    a, b = '#pragma once\n#include "ops/b.h"\n', '#pragma once\n#include "ops/a.h"\n'
    assert faults(tmp_path, {"ops/a.h": a, "ops/b.h": b})[-1] == (
        "include cycle: ops/a.h -> ops/b.h -> ops/a.h"
    )
