"""Records tests/python/data/views.json: shape, strides and aliasing that torch gives for view and copy ops.

    python tests/tools/record_views.py

A case is a base tensor (by an expression) and an expression of x; the result is "raises", or the shape, the
strides of dims longer than 1, the offset, whether it shares the memory of x, and the values if it does not.
"""

import json
import pathlib

import torch

BASES = [
    "fx.arange(24).view(2, 3, 4)",
    "fx.arange(24).view(2, 3, 4).transpose(0, 1)",
    "fx.arange(24).view(2, 3, 4).permute(2, 0, 1)",
    "fx.arange(48).view(2, 3, 8)[:, :, ::2]",
    "fx.arange(40).view(2, 5, 4)[:, 1:4]",
    "fx.arange(4).expand(2, 3, 4)",
    "fx.arange(6).view(2, 3, 1).expand(2, 3, 4)",
    "fx.arange(24).view(2, 3, 1, 4, 1)",
    "fx.arange(12).view(3, 1, 4).transpose(0, 2)",
    "fx.arange(6)",
    "fx.arange(12).view(3, 4)",
    "fx.arange(12).view(3, 4).t()",
    "fx.arange(1).view(1, 1)",
    "fx.tensor(5)",
    "fx.arange(0)",
    "fx.arange(0).view(2, 0, 3)",
    "fx.arange(0).view(0, 3).t()",
]
VIEWS = [
    *(f"x.{f}({s})" for f in ("view", "reshape") for s in (
        "-1", "24", "6, 4", "2, 12", "8, 3", "2, 3, 2, 2", "3, 2, 4", "1, -1", "-1, 1, 2", "3, -1", "2, 3, 4", "1",
        "1, 1, 1", "()", "0", "2, 0, -1", "0, -1", "3, 0, 5", "-1, -1", "-2, 3", "5, 5", "4, 3, 2", "12, 2")),
    *(f"x.expand({s})" for s in ("2, 3, 4", "5, 2, 3, 4", "-1, -1, -1", "3, 4", "1, 1", "4, 4", "7, 1, -1", "2, 6", "3, -1", "2, 0, 3")),
    *(f"x.permute({s})" for s in ("0, 1, 2", "2, 0, 1", "1, 0", "-1, 0, 1", "0", "()", "0, 0", "0, 3, 1")),
    *(f"x.transpose({s})" for s in ("0, 1", "0, -1", "1, 2", "-1, -2", "0, 0", "0, 5")),
    "x.t()", "x.T",
    *(f"x.squeeze({s})" for s in ("", "0", "1", "-1", "2", "(0, 2)", "(2, 4)", "7")),
    *(f"x.unsqueeze({s})" for s in ("0", "1", "2", "-1", "-2", "6", "-9")),
    *(f"x.flatten({s})" for s in ("", "1", "0, 1", "1, 2", "-2, -1", "2, 0", "0, 0")),
    *(f"x.unflatten({s})" for s in ("0, (1, -1)", "-1, (2, 2)", "-1, (2, -1)", "1, (3, 1)", "0, (5, 2)")),
    *(f"x.movedim({s})" for s in ("0, -1", "0, 1", "(0, 1), (1, 0)", "(0, 2), (2, 0)", "(0, 0), (1, 2)", "0, 9")),
    *(f"x.narrow({s})" for s in ("0, 0, 1", "1, 1, 2", "-1, -2, 1", "0, 0, 9", "0, 2, 0", "0, 0, -1")),
    *(f"x.select({s})" for s in ("0, 0", "0, -1", "1, 2", "-1, 3", "0, 9")),
    *(f"x[{s}]" for s in ("0", "-1", "0, 1", "..., 0", "...", ":", "1:", ":-1", "::2", "1:1", "5:2", ":, 1:3", "..., None",
                          "None, 0", "0, None, ..., 0", ":, None, ::3", "9", "0, 0, 0, 0, 0, 0", "-9")),
    *(f"x.chunk({s})[-1]" for s in ("2", "3, 1", "5, -1", "1", "0")),
    *(f"x.split({s})[-1]" for s in ("1", "2, 1", "[1, 1]", "[1, 2], 1", "3, -1", "[1, 3], -1", "0")),
    *(f"x.unbind({s})[-1]" for s in ("", "1", "-1")),
    *(f"x.tensor_split({s})[0]" for s in ("2", "3, -1", "(1, 2), 1")),
    "x.view_as(x)", "x.reshape_as(x)", "x.expand_as(x)", "x.broadcast_to((2, 2, 3, 4))", "x.ravel()", "x.detach()", "x.data",
    "x.contiguous()", "x.clone()", "x.swapaxes(0, 1)", "x.moveaxis(0, 1)", "x.diagonal()", "x.unfold(-1, 2, 1)",
]  # fmt: skip
LAYOUTS = ["x + 1", "x * x", "-x", "x + x.contiguous()", "x.contiguous() + x", "x == x", "x / 2", "x.double()", "x.abs()",
           "fx.zeros_like(x)", "fx.empty_like(x)", "fx.ones_like(x)", "fx.full_like(x, 3)",
           "x.to(fx.int32)", "x.sum(0)", "x.sum(-1, keepdim=True)", "fx.where(x > 3, x, 0)", "x.clamp(2, 5)", "x.flip(0)",
           "fx.cat([x, x])", "fx.stack([x, x])"]  # fmt: skip


def record(base, expression):
    x = eval(base, {"fx": torch})
    try:
        y = eval(expression, {"fx": torch, "x": x})
    except (RuntimeError, IndexError, ValueError, TypeError):
        return "raises"
    if y.numel() == 0:
        return [list(y.shape)]
    strides = [s for n, s in zip(y.shape, y.stride()) if n > 1]
    shares = y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    values = None if shares or expression.startswith("fx.empty") else y.flatten().tolist()
    return [list(y.shape), strides, y.storage_offset(), shares, values]


def cases(expressions):
    return {base: {e: record(base, e) for e in expressions} for base in BASES}


def dump(table):
    """One line per case."""
    rows = ",\n".join(
        f"  {json.dumps(base)}: {{\n"
        + ",\n".join(f"   {json.dumps(e)}: {json.dumps(r)}" for e, r in row.items())
        + "\n  }"
        for base, row in table.items()
    )
    return "{\n" + rows + "\n }"


version = json.dumps(torch.__version__.split("+")[0])
text = f'{{\n "torch": {version},\n "views": {dump(cases(VIEWS))},\n "layouts": {dump(cases(LAYOUTS))}\n}}\n'
json.loads(text)
(pathlib.Path(__file__).resolve().parent.parent / "python/data/views.json").write_text(text)
