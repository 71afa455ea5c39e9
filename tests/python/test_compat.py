"""`fluxion run --as-torch` and the modules that stand for torch's."""

import subprocess
import sys
import textwrap

import pytest

import fluxion
from fluxion.compat import stubs


def run_script(tmp_path, source, *args):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(source))
    command = [sys.executable, "-m", "fluxion.cli", "run", "--as-torch", str(script), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)


def output(tmp_path, source, *args):
    done = run_script(tmp_path, source, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_is_fluxion(tmp_path):
    source = """
        import torch, fluxion
        import torch.nn as nn
        import torch.utils.data
        from torch import Tensor, optim
        from torch.nn import functional as F, Parameter
        from torch.nn.modules.linear import Linear
        from torch.optim.lr_scheduler import StepLR
        from torch.utils.data import DataLoader
        from torch.nn.utils import clip_grad_norm_
        from torch.nn.utils.clip_grad import clip_grad_value_
        import torch.nn.init as init
        assert torch.Tensor is fluxion.Tensor is Tensor
        assert nn.Linear is fluxion.nn.Linear is Linear
        assert F.cross_entropy is fluxion.nn.functional.cross_entropy is nn.functional.cross_entropy
        assert optim.AdamW is fluxion.optim.AdamW
        assert torch.nn.init is init
        assert torch.utils.data.DataLoader is DataLoader
        assert torch.float32 is fluxion.float32
        print(torch.__version__, torch.version.cuda)
    """
    assert output(tmp_path, source) == "2.8.0 None\n"


def test_script_sees_its_arguments_and_its_folder(tmp_path):
    (tmp_path / "helper.py").write_text("value = 7")
    source = """
        import sys, helper
        print(__name__, sys.argv[1:], helper.value)
    """
    assert output(tmp_path, source, "--device=cpu", "x", "-h") == (
        "__main__ ['--device=cpu', 'x', '-h'] 7\n"
    )


def test_what_is_missing_raises_by_name(tmp_path):
    source = """
        import torch
        for path in ("fft", "nn.Transformer3d", "nn.functional.ctc_loss", "cuda.Stream", "optim.LBFGS"):
            value = torch
            try:
                for name in path.split("."):
                    value = getattr(value, name)
            except AttributeError as error:
                print(error)
        try:
            import torch.not_there
        except ModuleNotFoundError as error:
            print(error)
        print(hasattr(torch.nn.functional, "scaled_dot_product_attention"))
    """
    assert output(tmp_path, source).splitlines() == [
        "torch.fft is not in Fluxion yet",
        "torch.nn.Transformer3d is not in Fluxion yet",
        "torch.nn.functional.ctc_loss is not in Fluxion yet",
        "torch.cuda.Stream is not in Fluxion yet",
        "torch.optim.LBFGS is not in Fluxion yet",
        "torch.not_there is not in Fluxion yet",
        "True",
    ]


def test_a_missing_name_in_from_import_is_explained(tmp_path):
    done = run_script(tmp_path, "from torch.nn import Transformer3d")
    assert done.returncode != 0
    assert "torch.nn.Transformer3d is not in Fluxion yet" in done.stderr


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("torch.ones(3).svd()", "Tensor.svd"),
        ("torch.nn.Linear(1, 1).ipu()", "Linear.ipu"),
        ("torch.optim.SGD([torch.ones(1)]).profile_hook_step()", "SGD.profile_hook_step"),
    ],
)
def test_a_missing_method_is_explained(tmp_path, call, name):
    done = run_script(tmp_path, f"import torch; {call}")
    assert f"torch's {name} is not in Fluxion yet" in done.stderr


def test_a_typing_error_of_the_script_is_left_alone(tmp_path):
    done = run_script(tmp_path, "class A: pass\nA().b")
    assert "no attribute 'b'" in done.stderr
    assert "Fluxion yet" not in done.stderr


def test_old_names_of_tensors(tmp_path):
    source = """
        import torch
        from torch.autograd import Variable
        from torch.utils.data.distributed import DistributedSampler
        x = torch.ones(2)
        v = Variable(x, requires_grad=True)
        (v * 3).sum().backward()
        print(v.grad.tolist(), x.requires_grad, isinstance(x, Variable), isinstance(3, Variable))
    """
    assert output(tmp_path, source) == "[3.0, 3.0] False True False\n"


def test_the_command_knows_its_version(capsys):
    from fluxion.cli import main

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"fluxion {fluxion.__version__}\n"


def test_a_missing_script(tmp_path):
    command = [sys.executable, "-m", "fluxion.cli", "run", "--as-torch", "none.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "fluxion run: no such file: none.py\n"


def test_the_usual_training_preamble(tmp_path):
    source = """
        import inspect, torch
        from contextlib import nullcontext
        from torch.nn.parallel import DistributedDataParallel as DDP
        from torch.distributed import init_process_group, destroy_process_group
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        torch.manual_seed(1)
        torch.cuda.manual_seed_all(1)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        assert torch.backends.cuda.matmul.allow_tf32 and torch.get_float32_matmul_precision() == "high"
        assert "fused" in inspect.signature(torch.optim.AdamW).parameters
        assert not torch.distributed.is_available() and torch.distributed.get_world_size() == 1
        scaler = torch.cuda.amp.GradScaler(enabled=True)
        model = torch.compile(torch.nn.Linear(2, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        with torch.amp.autocast(device_type=device, dtype=torch.float32, enabled=False):
            loss = model(torch.ones(1, 2)).sum()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

        @torch.jit.script
        def f(x):
            return x + 1

        @torch.no_grad()
        def g():
            return f(model.weight).requires_grad

        print(device, g())
    """
    done = run_script(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cpu False\n"


def test_a_small_model_trains_and_resumes(tmp_path):
    source = """
        import torch, torch.nn as nn, torch.nn.functional as F
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        x = torch.tensor([[0., 0.], [0., 1.], [1., 0.], [1., 1.]])
        y = torch.tensor([0, 1, 1, 0])
        for _ in range(200):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "ckpt.pt")
        saved = torch.load("ckpt.pt", map_location="cpu")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        print(model(x).argmax(1).tolist(), loss.item() < 0.1)
    """
    assert output(tmp_path, source) == "[0, 1, 1, 0] True\n"


def test_stand_ins_that_would_have_to_work_raise_by_name():
    with pytest.raises(NotImplementedError, match="torch.autocast on the CPU is not in Fluxion"):
        stubs.autocast("cpu", fluxion.bfloat16)
    with pytest.raises(NotImplementedError, match="torch.amp.GradScaler on cpu"):
        stubs.GradScaler("cpu")
    with pytest.raises(NotImplementedError, match="torch.distributed.all_reduce is not in"):
        stubs.MODULES["torch.distributed"]["all_reduce"](1)
    with pytest.raises(NotImplementedError, match="DistributedDataParallel is not in Fluxion"):
        stubs.DistributedDataParallel(None)
    with pytest.raises(ValueError, match="unknown precision 'low'"):
        stubs.MODULES["torch"]["set_float32_matmul_precision"]("low")


def test_stand_ins_without_effect():
    with pytest.warns(UserWarning, match="CUDA is not available, so the scaler is disabled"):
        scaler = stubs.MODULES["torch.cuda.amp"]["GradScaler"]()
    assert scaler.scale(3) == 3
    assert not scaler.is_enabled()
    with pytest.warns(UserWarning, match="cuda is not available"):
        assert stubs.autocast("cuda")(abs) is abs
    with stubs.autocast("cpu", fluxion.float32):
        pass
    jit = stubs.MODULES["torch.jit"]
    assert jit["ignore"](abs) is abs
    assert jit["export"]()(abs) is abs
    assert jit["Final"][int] is int


def test_install_refuses_after_pytorch(monkeypatch):
    import types

    from fluxion import compat

    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    with pytest.raises(RuntimeError, match="PyTorch is imported already"):
        compat.install()
