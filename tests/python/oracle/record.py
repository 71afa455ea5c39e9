"""Records what PyTorch gives, in recorded.json beside this file.

Run from tests/python with PyTorch 2.13: `python -m oracle.record`. Signatures are recorded for the names that the
installed fluxion exports, if there is one.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path

from . import modules, programs, signatures, training
from .values import plain

FILE = Path(__file__).with_name("recorded.json")


def results(T):
    """{kind: {case: result}} of everything but signatures."""
    return {
        "modules": {name: plain(modules.run_module(T, name)) for name in modules.CASES},
        "losses": {name: plain(modules.run_loss(T, name)) for name in modules.LOSSES},
        "programs": {name: plain(run(T)) for name, run in programs.PROGRAMS.items()},
        "optimizers": {n: plain(training.run_optimizer(T, n)) for n in training.OPTIMIZERS},
        "schedules": {n: plain(training.run_schedule(T, n)) for n in training.SCHEDULES},
        "plateaus": {str(i): training.run_plateau(T, i) for i in range(len(training.PLATEAUS))},
    }


def rounded(value, digits):
    """Floats with so many significant digits, which is more than the tests compare."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    return value


def exported():
    """{part: public names} of the installed fluxion."""
    out = {}
    for part in signatures.PARTS:
        module = importlib.import_module("fluxion." + part)
        out[part] = sorted(getattr(module, "__all__", ()))
    return out


def main():
    warnings.simplefilter("ignore")
    import torch
    import torch.optim.lr_scheduler  # noqa: F401
    import torch.utils.data  # noqa: F401

    recorded = {
        kind: rounded(cases, 13 if kind in ("schedules", "plateaus") else 9)
        for kind, cases in results(torch).items()
    }
    recorded["signatures"] = signatures.signatures(torch, exported())
    lines = []
    for kind, cases in recorded.items():
        rows = ",\n".join(f"{json.dumps(n)}: {json.dumps(r)}" for n, r in cases.items())
        lines.append(f"{json.dumps(kind)}: {{\n{rows}\n}}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"torch {torch.__version__}: {FILE} has {FILE.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
