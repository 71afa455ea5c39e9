"""The examples learn; the GPT learns as fast as PyTorch's from the same weights and batches."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Resolves `fluxion` and its submodules to PyTorch, then runs the script that follows.
TORCH_AS_FLUXION = """
import runpy, sys, torch
import torch.nn.functional, torch.nn.utils, torch.optim.lr_scheduler, torch.utils.data
sys.modules |= {"fluxion" + n[5:]: m for n, m in sys.modules.items() if n.split(".")[0] == "torch"}
from safetensors.torch import load_file
torch.load = load_file
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script, *arguments, torch=False):
    launcher = [sys.executable, *(["-c", TORCH_AS_FLUXION] if torch else [])]
    command = [*launcher, ROOT / "examples" / script, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_digits_reads_digits():
    out = run("digits.py", "--epochs", 2)
    accuracy = float(re.search(r"it reads ([\d.]+)% right", out)[1])
    assert accuracy > 92, out


def test_digits_says_what_is_missing(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as error:
        run("digits.py", "--data", tmp_path)
    assert "has no train-images-idx3-ubyte(.gz)" in error.value.stderr


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "can't be read as text"),
        (b"\xff\xfe\xff", "can't be read as text"),
        (b"To be", "the text has 5 characters; give more than"),
    ],
)
def test_gpt_says_what_is_wrong_with_a_text(tmp_path, content, text):
    file = tmp_path / "text"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(subprocess.CalledProcessError) as error:
        run("shakespeare.py", "--data", file)
    assert text in error.value.stderr
    assert "Traceback" not in error.value.stderr


GPT = ["--steps", 60, "--width", 32, "--context", 32, "--sample", 20]


def losses(out):
    found = re.search(r"loss: training ([\d.]+), held back ([\d.]+)", out)
    return [float(x) for x in found.groups()]


def test_gpt_learns_and_saves(tmp_path):
    file = tmp_path / "gpt.safetensors"
    out = run("shakespeare.py", *GPT, "--save", file)
    blind = float(re.search(r"costs ([\d.]+) nats", out)[1])
    assert max(losses(out)) < 0.85 * blind
    size = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + size])
    assert "blocks.3.attention.qkv.weight" in header


@pytest.mark.torch
def test_gpt_learns_like_torch(tmp_path):
    start = tmp_path / "start.safetensors"
    run("shakespeare.py", "--steps", 0, *GPT[2:], "--save", start)
    ours, theirs = (
        losses(run("shakespeare.py", *GPT, "--init", start, torch=torch)) for torch in (False, True)
    )
    assert ours == pytest.approx(theirs, abs=0.02)
