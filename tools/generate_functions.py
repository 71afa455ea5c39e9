"""Writes ops/functions.h, the C++ declarations of the function table, from the schema strings in ops/*.cpp.

Run `python tools/generate_functions.py` after adding a Function entry; `--check` only compares.
"""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "ops" / "functions.h"

TYPES = {
    "Tensor": "const Tensor&",
    "Tensor?": "const Tensor&",
    "Number": "const Tensor&",
    "Number?": "const Tensor&",
    "Tensor[]": "Tensors",
    "Tensor...": "Tensors",
    "int": "int64_t",
    "int?": "OptInt",
    "int[]": "Ints",
    "int...": "Ints",
    "int[]?": "OptInts",
    "float": "double",
    "float?": "OptDouble",
    "bool": "bool",
    "bool?": "OptBool",
    "Scalar": "Scalar",
    "Scalar?": "OptScalar",
    "dtype": "DType",
    "dtype?": "OptDType",
    "str": "std::string_view",
    "str?": "std::optional<std::string_view>",
    "Generator?": "Generator*",
}
RETURNS = {
    "Tensor": "Tensor",
    "Tensor[]": "std::vector<Tensor>",
    "bool": "bool",
    "int": "int64_t",
    "float": "double",
    "()": "void",
}

SCHEMA = re.compile(r"^([a-z_][a-z0-9_]*)\((.*)\)\s*->\s*(.+)$")
ENTRY = re.compile(r'\{\s*((?:"(?:[^"\\]|\\.)*"\s*)+),', re.S)
THUNK = re.compile(r"thunk<(?:static_cast<.*?>\()?&(\w+)\)?>", re.S)
PIECE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)


def schemas(path: pathlib.Path) -> list[str]:
    """The schema strings of an op file: the first string of each braced entry that looks like one."""
    found = []
    source = path.read_text()
    for entry in ENTRY.finditer(source):
        text = "".join(PIECE.findall(entry.group(1))).replace('\\"', '"')
        schema = SCHEMA.match(text)
        thunk = THUNK.search(source, entry.end())
        if (
            schema and thunk and thunk.group(1) == schema.group(1)
        ):  # aliases get no C++ name of their own
            found.append(text)
    return found


def split_parameters(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    if text[start:].strip():
        parts.append(text[start:].strip())
    return parts


def default(kind: str, value: str) -> str:
    if value == "None":
        return {"Generator?": "nullptr"}.get(kind, "{}")
    if value in ("True", "False"):
        return value.lower()
    if kind in ("int[]", "int...", "int[]?"):
        numbers = re.findall(r"-?\d+", value)
        if not numbers:
            return "Ints{}"
        return f"detail::default_ints<{', '.join(numbers)}>"
    if kind.startswith("str"):
        return '"' + value.strip("'\"") + '"'
    if kind in ("Number", "Number?"):
        return f"Scalar({value}).tensor()"
    if value in ("inf", "-inf"):
        return value.replace("inf", "std::numeric_limits<double>::infinity()")
    return value


def arguments(schema: str) -> list[tuple[str, str]]:
    """(type, rest) of every parameter that is one in C++."""
    pairs = [p.split(None, 1) for p in split_parameters(SCHEMA.match(schema).group(2)) if p != "*"]
    return [(kind, rest) for kind, rest in pairs if kind != "ignored?"]


def needed(schema: str, earlier: list[str]) -> int:
    """How many arguments must be given, so that the call fits no earlier overload too."""
    count = 0
    for other in earlier:
        for i, ((mine, _), (theirs, rest)) in enumerate(zip(arguments(schema), arguments(other))):
            if mine != theirs:
                count = max(count, i + 1 if "=" in rest else 0)
                break
    return count


def declaration(schema: str, earlier: list[str] = ()) -> str:
    name, _, returns = SCHEMA.match(schema).groups()
    out = []
    for position, (kind, rest) in enumerate(arguments(schema)):
        word, _, value = rest.partition("=")
        if position < needed(schema, earlier):
            value = ""
        if kind not in TYPES:
            sys.exit(f"{name}: unknown parameter type {kind!r} in {schema!r}")
        word = {"register": "register_", "default": "default_", "auto": "auto_"}.get(
            word.strip(), word.strip()
        )
        cpp = "Text" if kind == "str" and earlier else TYPES[kind]
        out.append(f"{cpp} {word}" + (f" = {default(kind, value.strip())}" if value else ""))
    if returns in RETURNS:
        result = RETURNS[returns]
    else:
        count = len(split_parameters(returns.strip("()")))
        result = f"std::tuple<{', '.join(['Tensor'] * count)}>"
    return f"{result} {name}({', '.join(out)});"


def declarations(found: list[str]) -> list[str]:
    """One line per schema; overloads of one name stand in one file."""
    lines, seen = [], {}
    for schema in found:
        overloads = seen.setdefault(SCHEMA.match(schema).group(1), [])
        lines.append(declaration(schema, overloads))
        overloads.append(schema)
    return lines


def generate() -> str:
    lines = [
        "// Generated by tools/generate_functions.py from the schemas in ops/*.cpp. Do not edit.",
        "#pragma once",
        "",
        "#include <limits>",
        "#include <string_view>",
        "#include <tuple>",
        "#include <vector>",
        "",
        '#include "ops/function.h"',
        "",
        "namespace fluxion {",
        "",
        "namespace detail {",
        "template <int64_t... N>",
        "inline constexpr int64_t default_ints[] = {N...};",
        "}  // namespace detail",
        "",
    ]
    for path in sorted((ROOT / "ops").glob("*.cpp")):
        found = schemas(path)
        if found:
            lines += [f"// {path.name}", *declarations(found), ""]
    return "\n".join(lines + ["}  // namespace fluxion", ""])


if __name__ == "__main__":
    text = generate()
    if "--check" in sys.argv:
        if TARGET.read_text() != text:
            sys.exit("ops/functions.h is out of date: run `make generate`")
    elif not TARGET.exists() or TARGET.read_text() != text:
        TARGET.write_text(text)
