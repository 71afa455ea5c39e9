"""Every function with random arguments, valid and hostile: a result or a Python exception that says something, never
a crash, a hang, a SystemError or an internal error.

More of it: python tests/python/test_fuzz_functions.py SEED CALLS [NAME]
"""

import pathlib
import random
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__)
BATCHES = 8
CALLS = 60  # of every function
SECONDS_PER_CALL = 20
MEMORY = (
    2 << 30
)  # address space of a batch, so that huge results fail instead of filling the machine

EXTREMES = [
    -1,
    -2,
    16,
    17,
    100,
    2**31,
    2**40,
    2**62,
    -(2**62),
    2**63 - 1,
    -(2**63),
    2**64,
    -(2**31),
]
SIZES = [0, 1, 1, 2, 2, 3, 4, 5]
TEXTS = [
    "mean",
    "sum",
    "none",
    "same",
    "valid",
    "reflect",
    "add",
    "amax",
    "left",
    "ij->ji",
    "",
    "é",
]
SKIPPED = {
    "_set_capture_hooks",  # replaces parts of the Python package for good
}


class Arguments:
    """Draws the arguments of one call."""

    def __init__(self, fluxion, seed):
        self.fx = fluxion
        self.r = random.Random(seed)
        self.dtypes = sorted(
            {d for d in vars(fluxion).values() if isinstance(d, fluxion.dtype)}, key=str
        )

    def integer(self):
        if self.r.random() < 0.25:
            return self.r.choice(EXTREMES)
        return self.r.choice([0, 0, 1, 1, 2, 3, -1, -2, 5])

    def real(self):
        pool = [0.0, 0.5, 1.0, 2, -1.0, 1e-5, 1e30, 1e300, -0.0]
        return self.r.choice([*pool, float("nan"), float("inf"), float("-inf")])

    def ints(self):
        if self.r.random() < 0.2:
            return self.integer()
        n = self.r.choice(
            [0, 1, 1, 2, 2, 2, 3, 4, 17, 40] if self.r.random() < 0.3 else [1, 2, 2, 4]
        )
        return self.r.choice([tuple, list])(self.integer() for _ in range(n))

    def shape(self):
        rank = self.r.choice([0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5] if self.r.random() < 0.95 else [16])
        return [self.r.choice(SIZES if rank < 6 else [1, 1, 1, 2]) for _ in range(rank)]

    def tensor(self):
        fx, r = self.fx, self.r
        if r.random() < 0.15:
            return self.nested_tensor()
        dtype = r.choice(
            [fx.float32, fx.float32, fx.float64, fx.int64, fx.bool, r.choice(self.dtypes)]
        )
        t = fx.zeros(self.shape(), dtype=dtype)
        t.copy_(fx.randint(-3, 6, t.shape))
        if dtype.is_floating_point and t.numel() and r.random() < 0.2:
            t.view(-1)[0] = self.real() if dtype is not fx.float16 else float("nan")
        if dtype.is_floating_point and r.random() < 0.2:
            t.requires_grad_()
        return t

    def nested_tensor(self):
        """Expanded, transposed, reversed, huge without elements, windows that share memory."""
        fx, r = self.fx, self.r
        makers = [
            lambda: fx.ones(3, 1).expand(3, 4),
            lambda: fx.ones(1).expand(7),
            lambda: fx.arange(6.0).view(2, 3).t(),
            lambda: fx.arange(6)[::-1],
            lambda: fx.zeros(2 ** r.choice([20, 31, 62]), 0),
            lambda: fx.zeros(0, 2 ** r.choice([20, 31, 62])),
            lambda: fx.arange(8.0).unfold(0, 3, 1),
            lambda: fx.zeros(3, 0, 2),
            lambda: fx.tensor([2**63 - 1, -(2**63), 0]),
            lambda: fx.tensor(float("nan")),
        ]
        return r.choice(makers)()

    def rubbish(self):
        return self.r.choice(
            [None, "x", 3, 1.5, [], {}, b"ab", (1, 2), object(), [None], 2**70, True]
        )

    def known(self, kind):
        r, fx = self.r, self.fx
        match kind.removesuffix("?").removesuffix("..."):
            case "Tensor":
                return self.tensor()
            case "Number":
                return self.tensor() if r.random() < 0.5 else self.scalar()
            case "Tensor[]":
                first = self.tensor()
                others = [
                    first if r.random() < 0.7 else self.tensor() for _ in range(r.randint(0, 3))
                ]
                return r.choice([tuple, list])([first, *others] if r.random() < 0.9 else [])
            case "int":
                return self.integer()
            case "int[]":
                return self.ints()
            case "float":
                return self.real()
            case "Scalar":
                return self.scalar()
            case "bool":
                return r.random() < 0.5
            case "dtype":
                return r.choice(self.dtypes)
            case "str":
                return r.choice(TEXTS)
            case "Generator":
                return r.choice([None, fx.Generator()])
        return r.choice([self.rubbish, self.tensor, self.ints, self.scalar])()

    def scalar(self):
        return self.r.choice([self.integer, self.real])()

    def argument(self, kind):
        if self.r.random() < 0.04:
            return self.rubbish()
        if kind.endswith("?") and self.r.random() < 0.3:
            return None
        return self.known(kind)


def targets(fluxion, schemas):
    """(name, callable, its parameters) of every way to call a function."""
    from fluxion._schema import parse

    for text, _, flags in schemas:
        schema = parse(text)
        parameters = [p for p in schema.parameters if p.type != "ignored?"]
        if schema.name in SKIPPED:
            continue
        if flags & (1 | 4 | 32):
            yield schema.name, getattr(fluxion._C, schema.name), parameters, bool(flags & 16)
        if flags & 2:
            yield "Tensor." + schema.name, getattr(fluxion.Tensor, schema.name), parameters, False
        if flags & 8:
            name = schema.name + "_"
            yield "Tensor." + name, getattr(fluxion.Tensor, name), parameters, False


def draw_call(arguments, parameters, out):
    """Positional and keyword arguments; those with defaults are left away now and then."""
    positional, keywords = [], {}
    for p in parameters:
        if p.default is not None and arguments.r.random() < 0.4:
            continue
        value = arguments.argument(p.type)
        by_name = p.keyword_only or keywords or len(positional) < parameters.index(p)
        if p.variadic and not by_name:
            positional += value if isinstance(value, (tuple, list)) else [value]
            break
        if by_name:
            keywords[p.name] = value
        else:
            positional.append(value)
    if out and arguments.r.random() < 0.15:
        tensors = [a for a in positional if isinstance(a, arguments.fx.Tensor)]
        keywords["out"] = arguments.r.choice([arguments.tensor(), *tensors])
    return positional, keywords


def text_of(value, fluxion):
    if isinstance(value, fluxion.Tensor):
        strided = "" if value.is_contiguous() else f" strides {value.stride()}"
        values = value.tolist() if value.numel() < 30 and max(value.shape, default=0) < 30 else ""
        return f"<{value.dtype} {tuple(value.shape)}{strided} {values} {value.requires_grad}>"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(text_of(v, fluxion) for v in value) + "]"
    return repr(value)


def describe(name, positional, keywords, fluxion):
    parts = [text_of(a, fluxion) for a in positional]
    parts += [f"{k}={text_of(v, fluxion)}" for k, v in keywords.items()]
    return f"{name}({', '.join(parts)})"


def complaint(error):
    """What is wrong with an exception, if anything is."""
    text = str(error)
    if isinstance(error, SystemError) or not isinstance(error, Exception):
        return f"{type(error).__name__}: {text}"
    if not text.strip() and not isinstance(error, MemoryError):  # Python's own has none
        return f"{type(error).__name__} without a text"
    if "internal error" in text or "std::" in text or "vector::" in text or "basic_string" in text:
        return f"{type(error).__name__}: {text}"
    return None


def use(result, fluxion):
    """Results are what they say: readable, and differentiable where they require it."""
    results = result if isinstance(result, (tuple, list)) else [result]
    tensors = [t for t in results[:3] if isinstance(t, fluxion.Tensor)]
    tensors = [t for t in tensors if max(t.shape, default=0) < 10000 and t.numel() < 10000]
    for t in tensors:
        repr(t)
    wanted = [t for t in tensors if t.requires_grad]
    if wanted:
        wanted[0].backward(fluxion.ones_like(wanted[0]))


def run_batch(seed, calls, batch, batches, only=None):
    """In a process of its own; the last line of its output is the call that was being made."""
    import faulthandler
    import resource
    import warnings

    import fluxion

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    dtype = fluxion.get_default_dtype()
    found = 0
    for index, (name, function, parameters, out) in enumerate(
        targets(fluxion, fluxion._C._schemas())
    ):
        if index % batches != batch or (only and name != only):
            continue
        for i in range(calls):
            arguments = Arguments(fluxion, f"{seed} {name} {index} {i}")
            fluxion.manual_seed(i)
            positional, keywords = draw_call(arguments, parameters, out)
            line = describe(name, positional, keywords, fluxion)
            print(line, flush=True)
            faulthandler.dump_traceback_later(SECONDS_PER_CALL, exit=True)
            try:
                use(function(*positional, **keywords), fluxion)
            except BaseException as error:
                what = complaint(error)
                found += what is not None
                if what:
                    print(f"FOUND {line}\n    {what}", file=sys.stderr, flush=True)
            faulthandler.cancel_dump_traceback_later()
            fluxion.set_default_dtype(dtype)
            fluxion.set_grad_enabled(True)
            fluxion.set_num_threads(2)
    sys.exit(found > 0)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_call_returns_or_explains(batch):
    command = [sys.executable, str(HERE), "1", str(CALLS), "", str(batch), str(BATCHES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    last = done.stdout.rpartition("\n")[0].rpartition("\n")[2]
    assert done.returncode == 0, f"exit {done.returncode} in {last}\n{done.stderr[-4000:]}"


if __name__ == "__main__":
    given = [*sys.argv[1:], *["1", "60", "", "0", "1"][len(sys.argv) - 1 :]]
    run_batch(given[0], int(given[1]), int(given[3]), int(given[4]), given[2] or None)
