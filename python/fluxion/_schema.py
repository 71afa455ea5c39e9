"""Schema strings such as "sum(Tensor input, int[]? dim=None, *, dtype? dtype=None) -> Tensor", read in Python.

Calls are bound by the extension itself; this is for `inspect.signature` and for the generator of stubs and docs.
"""

from __future__ import annotations

from collections import namedtuple

Parameter = namedtuple("Parameter", "type name default keyword_only variadic")
Schema = namedtuple("Schema", "name parameters returns")


def split(text: str) -> list[str]:
    """Splits at commas outside brackets and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for i, c in enumerate(text):
        if c in "'\"":
            quoted = not quoted
        if quoted:
            continue
        depth += (c in "([") - (c in ")]")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()] if text[start:].strip() else parts


def parse(schema: str) -> Schema:
    head, _, returns = schema.rpartition("->")
    name, _, inside = head.strip()[:-1].partition("(")
    parameters, keyword_only = [], False
    for part in split(inside):
        if part == "*":
            keyword_only = True
            continue
        kind, _, rest = part.partition(" ")
        parameter, equals, default = rest.partition("=")
        value = default.strip() if equals else "None" if kind == "ignored?" else None
        variadic = kind.endswith("...")
        parameters.append(Parameter(kind, parameter.strip(), value, keyword_only, variadic))
    return Schema(name, parameters, returns.strip())


def signature(text: str):
    """An inspect.Signature for "name(input, *size, dim=None)", the form in which errors show it."""
    import ast
    import inspect

    name, _, inside = text.strip()[:-1].partition("(")
    parameters, keyword_only = [], False
    for part in split(inside):
        if part == "*":
            keyword_only = True
            continue
        parameter, equals, default = part.partition("=")
        kind = (
            inspect.Parameter.KEYWORD_ONLY
            if keyword_only
            else inspect.Parameter.POSITIONAL_OR_KEYWORD
        )
        if parameter.startswith("*"):
            kind, keyword_only = inspect.Parameter.VAR_POSITIONAL, True
        value = inspect.Parameter.empty
        if equals:
            try:
                value = ast.literal_eval(default)
            except ValueError:
                value = float(default) if default.endswith("inf") else default
        parameters.append(inspect.Parameter(parameter.lstrip("*"), kind, default=value))
    return inspect.Signature(parameters)
