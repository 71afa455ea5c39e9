"""Records how torch prints: tests/python/data/print_cases.json and tests/cpp/print_cases.inc.

    python tests/tools/record_print.py

Element i of a case is values[i % len(values)] + step * i. Our dtypes print two letters
longer than torch's, so a case whose dtype suffix ends within two columns of the line's
end cannot agree.
"""

import json
import math
import pathlib

import torch

TESTS = pathlib.Path(__file__).resolve().parent.parent
NAN, INF = math.nan, math.inf
DEFAULT_OPTIONS = dict(precision=4, threshold=1000, edgeitems=3, linewidth=80, sci_mode=None)
ENUMERATOR = {
    "bool": "bool_",
    "uint8": "u8",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
}


def case(dtype, shape, values, step=0, requires_grad=False, **options):
    return dict(
        dtype=dtype,
        shape=shape,
        values=values,
        step=step,
        requires_grad=requires_grad,
        options={**DEFAULT_OPTIONS, **options},
    )


CASES = [
    case("float32", [], [1.5]),
    case("float32", [], [3]),
    case("float32", [], [NAN]),
    case("float32", [], [-INF]),
    case("float32", [], [1e-7]),
    case("int64", [], [-7]),
    case("bool", [], [1]),
    case("float32", [3], [1, 2, 3]),
    case("float32", [3], [1, 2.5, -3]),
    case("float32", [4], [0, -0.0, 0, 0]),
    case("float32", [4], [1, NAN, INF, -INF]),
    case("float32", [4], [1.5, NAN, INF, -INF]),
    case("float32", [2], [NAN, INF]),
    case("float32", [3], [1e-5, 1, 2]),
    case("float32", [3], [1e9, 1, 2]),
    case("float32", [3], [1000.5, 1, 2]),
    case("float32", [3], [1001.5, 1, 2]),
    case("float32", [2], [1e38, 1e-38]),
    case("float32", [2], [1e-45, 0]),
    case("float32", [1], [100000000]),
    case("float32", [2], [0.1, NAN], requires_grad=True),
    case("float64", [3], [0.1, 0.25, 1 / 3]),
    case("float64", [2], [1e300, 1e-300]),
    case("float16", [3], [0.1, 2, 65504]),
    case("bfloat16", [3], [0.1, 2, 3]),
    case("int64", [2, 3], [1, -20, 300]),
    case("int32", [3], [1, 2, 3]),
    case("uint8", [3], [1, 2, 255]),
    case("int8", [2, 2], [-128, 0, 127, 1]),
    case("int16", [1], [30000]),
    case("bool", [2, 3], [1, 0, 0, 1]),
    case("float32", [0], [0]),
    case("float32", [0, 3], [0]),
    case("int64", [0], [0]),
    case("bool", [2, 0, 3], [0]),
    case("float32", [2, 3], [1.5, -2, 3.25, 4]),
    case("float32", [2, 2, 3], [0], step=1),
    case("float32", [2, 1, 2, 2], [0], step=0.5),
    case("float32", [40], [0], step=1),
    case("float32", [2, 40], [0], step=0.37),
    case("int64", [100], [0], step=-12345),
    case("int64", [1001], [0], step=1),
    case("float32", [2000], [0.5], step=1),
    case("float32", [1000], [0], step=1),
    case("float32", [40, 40], [0], step=1),
    case("float32", [2, 600], [0.25], step=1, requires_grad=True),
    case("float64", [11, 11, 11], [0], step=0.125),
    case("float32", [7, 3, 7, 9], [-1, 1], step=0.01),
    case("bool", [1500], [1, 0, 0]),
    case("float32", [12], [0.123456], step=1, requires_grad=True),
    case("float64", [2, 6], [0.123456], step=1, requires_grad=True),
    case("float16", [1, 9], [0.123456], step=1, requires_grad=True),
    *(case("float32", [n], [v], requires_grad=True) for n in (9, 10, 12, 13) for v in (1, 10, 100)),
    case("float32", [3], [1 / 3, 2, 3], precision=8),
    case("float32", [3], [1 / 3, 2, 3], sci_mode=True),
    case("float32", [3], [1e-8, 2, 3], sci_mode=False),
    case("float32", [3], [1, 2, 3], sci_mode=True, precision=0),
    case("float32", [30], [0], step=1, threshold=10, edgeitems=2),
    case("int64", [6, 6], [0], step=1, threshold=10, edgeitems=1),
    case("int64", [6, 6], [0], step=1, threshold=10, edgeitems=0),
    case("int64", [20], [0], step=1, threshold=10, edgeitems=0),
    case("int64", [30], [0], step=1, linewidth=20),
    case("int64", [2, 3], [0], step=1, linewidth=3),
    case("float64", [2, 2, 2, 2, 2], [0], step=1, linewidth=40),
]


def printed(c):
    torch.set_printoptions(**c["options"])
    n = math.prod(c["shape"])
    elements = [c["values"][i % len(c["values"])] + c["step"] * i for i in range(n)]
    whole = c["dtype"].startswith(("int", "uint"))
    t = torch.tensor(elements, dtype=torch.int64 if whole else torch.float64)
    t = t.reshape(c["shape"]).to(getattr(torch, c["dtype"])).requires_grad_(c["requires_grad"])
    return repr(t).replace("torch.", "fluxion.")


def cpp_number(v):
    names = {"nan": "NAN", "inf": "INFINITY", "-inf": "-INFINITY"}
    return names.get(str(v), repr(float(v)))


def cpp(c):
    o = c["options"]
    sci = {None: -1, False: 0, True: 1}[o["sci_mode"]]
    numbers = [o["precision"], o["threshold"], o["edgeitems"], o["linewidth"], sci]
    options = "{" + ", ".join(map(str, numbers)) + "}"
    shape = ", ".join(map(str, c["shape"]))
    values = ", ".join(map(cpp_number, c["values"]))
    grad = "true" if c["requires_grad"] else "false"
    dtype = ENUMERATOR[c["dtype"]]
    return (
        f"{{DType::{dtype}, {{{shape}}}, {{{values}}}, {cpp_number(c['step'])}, {grad},\n"
        f' {options},\n R"~({c["text"]})~"}},'
    )


for c in CASES:
    c["text"] = printed(c)

version = torch.__version__.split("+")[0]
data = TESTS / "python/data/print_cases.json"
data.parent.mkdir(parents=True, exist_ok=True)
data.write_text(json.dumps({"torch": version, "cases": CASES}, indent=1) + "\n")
header = f"// How torch {version} prints. Recorded by tests/tools/record_print.py.\n"
(TESTS / "cpp/print_cases.inc").write_text(header + "\n".join(map(cpp, CASES)) + "\n")
