"""Stand-ins for the parts of torch that Fluxion has no counterpart of, or none yet.

Questions ("is CUDA there?") get a true answer, settings without effect are accepted, and what would have to do
something raises by name.
"""

from __future__ import annotations

from types import SimpleNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def _no(*args: Any, **kwargs: Any) -> bool:
    """The answer to every "is it available?"."""
    return False


def _nothing(*args: Any, **kwargs: Any) -> None:
    """A setting or request without effect here."""


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def _missing(name: str) -> Callable[..., Any]:
    """A function that raises by name when it is called."""

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{name} is not in Fluxion yet")

    return missing


def _warn(text: str, level: int = 3) -> None:
    import warnings

    warnings.warn(text, UserWarning, stacklevel=level)


# torch.amp


class autocast:
    """Mixed precision as a context or decorator. Only without effect: disabled, float32, or on a missing device."""

    def __init__(
        self,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if enabled and device_type == "cpu":
            if dtype is None or not str(dtype).endswith("float32"):
                raise NotImplementedError("torch.autocast on the CPU is not in Fluxion yet")
        elif enabled:
            text = f"torch.autocast: {device_type} is not available, so autocast is disabled"
            _warn(text, 3 if type(self) is autocast else 4)

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, function: Callable) -> Callable:
        return function


class _CudaAutocast(autocast):
    def __init__(self, enabled: bool = True, dtype: Any = None, cache_enabled: bool = True) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler:
    """Loss scaling. Without CUDA it is disabled, as in PyTorch, and passes everything through."""

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if enabled and device != "cuda":
            raise NotImplementedError(f"torch.amp.GradScaler on {device} is not in Fluxion yet")
        if enabled:
            text = "torch.amp.GradScaler: CUDA is not available, so the scaler is disabled"
            _warn(text, 3 if type(self) is GradScaler else 4)

    def scale(self, outputs: Any) -> Any:
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        pass

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        pass

    def get_scale(self) -> float:
        return 1.0

    def is_enabled(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class _CudaGradScaler(GradScaler):
    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        super().__init__(
            "cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled
        )


# torch.autograd


class _VariableType(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        from fluxion import Tensor

        return isinstance(instance, Tensor)


class Variable(metaclass=_VariableType):
    """The old name of a tensor. `Variable(data)` shares the memory of `data`."""

    def __new__(cls, data: Any, requires_grad: bool = False) -> Any:
        return data.detach().requires_grad_(requires_grad)


# torch.nn.parallel


class DistributedDataParallel:
    """Raises by name when it is made; scripts import it whether they use it or not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("torch.nn.parallel.DistributedDataParallel is not in Fluxion yet")


# torch.jit


def _same(obj: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Returns its argument; as a decorator with arguments, a function that does so."""
    return (lambda function: function) if obj is None else obj


class ScriptModule:
    """No module is one."""


class _Final:
    def __class_getitem__(cls, item: Any) -> Any:
        return item


_settings = {"float32_matmul_precision": "highest"}  # remembered, without effect


def _set_precision(precision: str) -> None:
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"set_float32_matmul_precision: unknown precision {precision!r}")
    _settings["float32_matmul_precision"] = precision


def _device_functions(name: str) -> dict[str, Any]:
    """The functions that torch.cuda, torch.mps and torch.xpu share."""
    answers = {"is_available": _no, "is_initialized": _no, "device_count": _constant(0)}
    ignored = ("manual_seed", "manual_seed_all", "seed", "empty_cache", "init", "synchronize")
    needing = ("set_device", "current_device", "get_device_name", "get_device_properties")
    return {
        **answers,
        **dict.fromkeys(ignored, _nothing),
        **{function: _missing(f"{name}.{function}") for function in needing},
    }


def _collectives(names: Iterable[str]) -> dict[str, Any]:
    return {name: _missing(f"torch.distributed.{name}") for name in names}


VERSION = "2.8.0"  # what scripts compare; the version whose interface we follow

# The names of each stand-in module. Their submodules are listed by full name.
MODULES: dict[str, dict[str, Any]] = {
    "torch": {
        "autocast": autocast,
        "set_float32_matmul_precision": _set_precision,
        "get_float32_matmul_precision": lambda: _settings["float32_matmul_precision"],
        "use_deterministic_algorithms": _nothing,
        "are_deterministic_algorithms_enabled": _constant(True),
    },
    "torch.version": {"__version__": VERSION, "cuda": None, "hip": None, "git_version": ""},
    "torch.autograd": {"Variable": Variable},
    "torch.amp": {"autocast": autocast, "GradScaler": GradScaler},
    "torch.cuda": {
        **_device_functions("torch.cuda"),
        "is_bf16_supported": _no,
        "memory_allocated": _constant(0),
        "max_memory_allocated": _constant(0),
        "reset_peak_memory_stats": _nothing,
    },
    "torch.cuda.amp": {"autocast": _CudaAutocast, "GradScaler": _CudaGradScaler},
    "torch.mps": _device_functions("torch.mps"),
    "torch.xpu": _device_functions("torch.xpu"),
    "torch.accelerator": {
        "is_available": _no,
        "current_accelerator": _nothing,
        "device_count": _constant(0),
    },
    "torch.backends": {},
    "torch.backends.cuda": {
        "is_built": _no,
        "matmul": SimpleNamespace(
            allow_tf32=False,
            allow_fp16_reduced_precision_reduction=False,
            allow_bf16_reduced_precision_reduction=False,
        ),
        "enable_flash_sdp": _nothing,
        "enable_mem_efficient_sdp": _nothing,
        "enable_math_sdp": _nothing,
    },
    "torch.backends.cudnn": {
        "is_available": _no,
        "version": _nothing,
        "enabled": False,
        "benchmark": False,
        "deterministic": True,
        "allow_tf32": False,
    },
    "torch.backends.mps": {"is_available": _no, "is_built": _no},
    "torch.backends.mkl": {"is_available": _no},
    "torch.backends.mkldnn": {"is_available": _no, "enabled": False},
    "torch.backends.openmp": {"is_available": _no},
    "torch.distributed": {
        "is_available": _no,
        "is_initialized": _no,
        "is_nccl_available": _no,
        "is_gloo_available": _no,
        "is_mpi_available": _no,
        "is_torchelastic_launched": _no,
        "get_rank": _constant(0),
        "get_world_size": _constant(1),
        "destroy_process_group": _nothing,
        "barrier": _nothing,
        **_collectives(
            ("init_process_group", "new_group", "all_reduce", "all_gather", "reduce_scatter")
        ),
        **_collectives(("broadcast", "all_to_all", "reduce", "gather", "scatter", "send", "recv")),
    },
    "torch.jit": {
        **dict.fromkeys(("script", "ignore", "unused", "export", "script_method"), _same),
        "interface": _same,
        "annotate": lambda the_type, the_value: the_value,
        "is_scripting": _no,
        "is_tracing": _no,
        "ScriptModule": ScriptModule,
        "Final": _Final,
        "trace": _missing("torch.jit.trace"),
        "save": _missing("torch.jit.save"),
        "load": _missing("torch.jit.load"),
    },
    "torch.nn.parallel": {"DistributedDataParallel": DistributedDataParallel},
}
