"""Records tests/python/data/promotion.json: the dtypes that torch gives for every pair of operands.

    python tests/tools/record_result_types.py

An operand is "f32" (a tensor with dims), "f32()" (a 0-dim tensor) or a Python number's type.
"""

import json
import pathlib

import torch

DTYPES = {
    "bool": torch.bool,
    "u8": torch.uint8,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
}
SHORT = {dtype: short for short, dtype in DTYPES.items()}
NUMBERS = {"bool_number": True, "int_number": 1, "float_number": 1.0}
OPERANDS = [*DTYPES, *(f"{d}()" for d in DTYPES), *NUMBERS]
BINARY = "add sub mul div floor_divide remainder fmod pow maximum bitwise_and bitwise_left_shift eq lt logical_and".split()
INPLACE = "add_ sub_ mul_ div_ floor_divide_ pow_ bitwise_and_ eq_ logical_and_ copy_".split()
UNARY = "neg abs sign floor ceil round trunc sqrt exp log sin tanh sigmoid reciprocal square bitwise_not logical_not isnan".split()
REDUCE = "sum prod mean amax amin any all argmax std norm cumsum".split()


def operand(kind):
    if kind in NUMBERS:
        return NUMBERS[kind]
    shape = () if kind.endswith("()") else (2,)
    return torch.ones(shape, dtype=DTYPES[kind.removesuffix("()")])


def result(f, *args, **kwargs):
    try:
        r = f(*args, **kwargs)
    except (RuntimeError, TypeError, NotImplementedError):
        return "raises"
    return SHORT[r if isinstance(r, torch.dtype) else r.dtype]


def table(f, lefts=OPERANDS, rights=OPERANDS):
    return {a: " ".join(result(f, operand(a), operand(b)) for b in rights) for a in lefts}


def where(a, b):
    return torch.where(torch.tensor([True, False]), a, b)


def inplace(name):
    return table(lambda a, b: getattr(a, name)(b), lefts=list(DTYPES))


def reduction(name):
    f = getattr(torch.Tensor, name)
    return (lambda x: f(x, 0)) if name == "cumsum" else f


def tables():
    return {
        "result_type": table(torch.result_type),
        "where": table(where),
        **{name: table(getattr(torch, name)) for name in BINARY},
        **{name: inplace(name) for name in INPLACE},
        **{name: {d: result(getattr(torch, name), operand(d)) for d in DTYPES} for name in UNARY},
        **{name: {d: result(reduction(name), operand(d)) for d in DTYPES} for name in REDUCE},
        "promote_types": {
            a: " ".join(SHORT[torch.promote_types(x, y)] for y in DTYPES.values())
            for a, x in DTYPES.items()
        },
        "can_cast": {
            a: " ".join(str(torch.can_cast(x, y)) for y in DTYPES.values())
            for a, x in DTYPES.items()
        },
    }


data = {"torch": torch.__version__.split("+")[0], "operands": OPERANDS, "float32": tables()}
torch.set_default_dtype(torch.float64)
data["float64"] = {
    k: v for k, v in tables().items() if k in ("result_type", "add", "div", "exp", "sum", "where")
}

path = pathlib.Path(__file__).resolve().parent.parent / "python/data/promotion.json"
path.write_text(json.dumps(data, indent=1) + "\n")
