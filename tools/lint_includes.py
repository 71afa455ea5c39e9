"""Include rules as a lint: arrows go down only, no cycles, heavy headers stay in their own folder.

usage: python tools/lint_includes.py [ROOT]      one line per fault; exit status 1 if there is one
"""

import re
import sys
from pathlib import Path

# Each folder and the folders it may include, bottom up; `kernels` is freestanding.
LAYERS = {
    "kernels": [],
    "base": [],
    "loops": ["kernels", "base"],
    "loops/llvm": ["loops", "kernels", "base"],
    "tensor": ["kernels", "base"],
    "ops": ["loops", "tensor", "kernels", "base"],
    "autograd": ["ops", "tensor", "kernels", "base"],
    "graph": ["autograd", "ops", "tensor", "kernels", "base"],
    "io": ["graph", "autograd", "ops", "tensor", "kernels", "base"],
    "trace": ["graph", "autograd", "ops", "tensor", "kernels", "base"],
    "compile": ["trace", "io", "graph", "autograd", "ops", "tensor", "kernels", "base"],
    "nn": ["io", "autograd", "ops", "tensor", "kernels", "base"],
    "include/fluxion": [
        "compile",
        "trace",
        "nn",
        "io",
        "graph",
        "autograd",
        "ops",
        "tensor",
        "kernels",
        "base",
    ],
    "serve": [
        "compile",
        "trace",
        "nn",
        "io",
        "graph",
        "autograd",
        "ops",
        "tensor",
        "kernels",
        "base",
    ],
    "python/src": [
        "compile",
        "trace",
        "nn",
        "io",
        "graph",
        "autograd",
        "ops",
        "tensor",
        "kernels",
        "base",
    ],
}

# Headers that cost seconds or bind us to a library, and the only files that may include them.
HEAVY = {
    "LLVM": (r"(llvm|llvm-c|clang)/", r"loops/llvm/[^/]*\.cpp"),
    "nanobind": (r"nanobind/|Python\.h|structmember\.h", r"python/src/.*"),
    "TBB": (r"(tbb|oneapi)/", r"tensor/threads\.cpp"),
    "Boost": (r"boost/", r"serve/[^/]*\.cpp"),
    "JSON": (r"(nlohmann|simdjson)", r"(io|serve|tests/cpp)/[^/]*\.cpp"),
    "FlatBuffers": (r"flatbuffers/|.*_generated\.h", r"io/([^/]*\.cpp|schema\.h)"),
}
# What the freestanding kernels may use of the standard library.
FREESTANDING = (
    r"atomic|cstddef|cstdint|cstring|cfloat|climits|cmath|limits|type_traits|bit|concepts|algorithm"
    r"|utility|immintrin\.h"
)

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.M)


def folder_of(path):
    """The layer a root-relative path belongs to: its longest prefix in LAYERS."""
    return max((f for f in LAYERS if path.startswith(f + "/")), key=len, default=None)


def quoted_target(root, path, name):
    """The root-relative file that `#include "name"` means in `path`."""
    for base in (Path(), Path("include"), Path(path).parent):
        if (root / base / name).is_file():
            return (base / name).as_posix()
    return None


def lint_file(root, path, text, edges):
    folder = folder_of(path)
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start(1) if match[1] else match.start(2)) + 1
        where = f"{path}:{line}"
        name = match[1] or match[2]
        for library, (pattern, allowed) in HEAVY.items():
            if re.match(pattern, name) and not re.fullmatch(allowed, path):
                yield f"{where}: {library} header <{name}> outside its folder"
        if match[2]:
            if folder == "kernels" and not re.fullmatch(FREESTANDING, name):
                yield f"{where}: kernels/ is freestanding and may not include <{name}>"
            continue
        if ".." in name.split("/"):
            yield f'{where}: write "{name}" relative to the root'
            continue
        target = quoted_target(root, path, name)
        if target is None:
            yield f'{where}: "{name}" does not exist'
            continue
        edges.setdefault(path, []).append(target)
        if folder is None:
            continue
        to = folder_of(target)
        if to != folder and to not in LAYERS[folder]:
            yield f"{where}: {folder}/ may not include {target} (upward)"


def cycles(edges):
    """Each include cycle once, as a list of files; the walk is iterative."""
    state = {}
    for start in sorted(edges):
        if start in state:
            continue
        path, stack = [start], [iter(edges[start])]
        state[start] = "open"
        while stack:
            target = next(stack[-1], None)
            if target is None:
                state[path.pop()] = "done"
                stack.pop()
            elif state.get(target) == "open":
                yield path[path.index(target) :] + [target]
            elif target not in state:
                state[target] = "open"
                path.append(target)
                stack.append(iter(edges.get(target, [])))


def layer_faults():
    """LAYERS itself must be acyclic: each folder names earlier ones only."""
    seen = set()
    for folder, below in LAYERS.items():
        for name in below:
            if name not in seen:
                yield f"tools/lint_includes.py: {folder} may include {name}, which stands above it"
        seen.add(folder)


def lint(root):
    faults, edges = list(layer_faults()), {}
    folders = [*LAYERS, "tests/cpp", "tools", "benchmarks/cpp", "examples/cpp"]
    files = [p for f in folders for p in (root / f).glob("*") if p.suffix in (".h", ".cpp")]
    for file in sorted(files):
        path = file.relative_to(root).as_posix()
        text = file.read_text()
        if file.suffix == ".h" and "#pragma once" not in text:
            faults.append(f"{path}:1: no #pragma once")
        faults += lint_file(root, path, text, edges)
    faults += [f"include cycle: {' -> '.join(c)}" for c in cycles(edges)]
    return faults


def main(argv):
    faults = lint(Path(argv[0] if argv else Path(__file__).parent.parent).resolve())
    print("\n".join(faults) or "includes: arrows go down, no cycles, heavy headers at home")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
