"""Modules, losses, optimizers and schedules give what PyTorch gave (recorded; see oracle/record.py)."""

import json
import warnings
from pathlib import Path

import pytest

import fluxion
from oracle import modules, programs, signatures, training
from oracle.values import close, plain

RECORDED = json.loads((Path(__file__).parent / "oracle" / "recorded.json").read_text())


def difference(got, wanted, tolerance, path="result"):
    """The first place where two results differ, for the message."""
    if isinstance(wanted, dict) and isinstance(got, dict) and got.keys() == wanted.keys():
        pairs = [(f"{path}[{key!r}]", got[key], wanted[key]) for key in wanted]
    elif isinstance(wanted, list) and isinstance(got, list) and len(got) == len(wanted):
        pairs = [(f"{path}[{i}]", g, w) for i, (g, w) in enumerate(zip(got, wanted))]
    else:
        return None if close(got, wanted, tolerance) else f"{path}: got {got!r}, PyTorch {wanted!r}"
    return next((d for p, g, w in pairs if (d := difference(g, w, tolerance, p))), None)


# Where Fluxion differs on purpose: bad arguments never raise AssertionError.
OURS = {
    "attribute_errors": {"embedding": "ValueError", "heads": "ValueError"},
}


def check(kind, case, got, tolerance=1e-7):
    """`got` equals what was recorded."""
    wanted = RECORDED[kind][case]
    if case in OURS:
        wanted = wanted | OURS[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = difference(plain(got()), wanted, tolerance)
    assert found is None, found


@pytest.mark.parametrize("case", modules.CASES)
def test_module(case):
    check("modules", case, lambda: modules.run_module(fluxion, case))


@pytest.mark.parametrize("case", modules.LOSSES)
def test_loss(case):
    check("losses", case, lambda: modules.run_loss(fluxion, case))


@pytest.mark.parametrize("case", programs.PROGRAMS)
def test_program(case):
    check("programs", case, lambda: programs.PROGRAMS[case](fluxion))


@pytest.mark.parametrize("case", training.OPTIMIZERS)
def test_optimizer(case):
    check("optimizers", case, lambda: training.run_optimizer(fluxion, case), 1e-6)


@pytest.mark.parametrize("case", training.SCHEDULES)
def test_schedule(case):
    check("schedules", case, lambda: training.run_schedule(fluxion, case), 1e-11)


@pytest.mark.parametrize("case", range(len(training.PLATEAUS)))
def test_plateau(case):
    check("plateaus", str(case), lambda: training.run_plateau(fluxion, case), 1e-11)


# Where a signature differs on purpose.
OWN_SIGNATURES = {
    "utils.data.Sampler",  # PyTorch 2.8 still takes a data_source
    "utils.data.random_split",  # its default is the default generator itself
}


@pytest.mark.parametrize("name", RECORDED["signatures"])
def test_signature(name):
    wanted = RECORDED["signatures"][name]
    part, _, member = name.rpartition(".")
    got = signatures.signature(getattr(signatures._find(fluxion, part), member))
    if wanted is None or got is None or name in OWN_SIGNATURES:
        return
    if [kind for _, kind, _ in wanted] == ["VAR_POSITIONAL", "VAR_KEYWORD"]:
        return  # PyTorch takes anything and ignores it
    assert got == wanted


def test_every_exported_name_is_pytorchs():
    """What nn, optim and utils.data export has PyTorch's names (signatures are recorded for those)."""
    own = {"utils.data.WorkerInfo"}
    names = {f"{part}.{n}" for part in signatures.PARTS for n in _names(part)}
    modules_ = {n for n in names if not callable(signatures._find(fluxion, n))}
    assert names - modules_ - own <= RECORDED["signatures"].keys()


def _names(part):
    return signatures._find(fluxion, part).__all__
