"""`torch` under Fluxion: unchanged PyTorch scripts find Fluxion where they import torch.

`install()` makes `import torch` and its submodules resolve to Fluxion, with stand-ins for what has no counterpart
(`torch.cuda`, `torch.distributed`, ...). A name that is missing raises AttributeError
"torch.x.y is not in Fluxion yet".
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from . import stubs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["install"]

# Parts of torch that are parts of Fluxion, with all that is below them.
_MIRRORED = ("torch.nn", "torch.optim", "torch.utils", "torch.autograd", "torch.random")
_ABSENT = object()


class TorchModule(ModuleType):
    """A module of torch: its names come from the stand-ins, then from Fluxion's module of the same name."""

    def __init__(self, name: str, own: dict[str, Any], mirrored: ModuleType | None) -> None:
        super().__init__(name)
        self.__dict__.update(own)
        self.__dict__["_mirrored"] = mirrored

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(self._mirrored, name, _ABSENT)
        if value is _ABSENT or isinstance(value, ModuleType):
            path = f"{self.__name__}.{name}"
            if not _is_known(path):
                raise AttributeError(f"{path} is not in Fluxion yet")
            value = importlib.import_module(path)
        self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *dir(self._mirrored)})


def _mirror_name(name: str) -> str | None:
    """The Fluxion module that stands for a module of torch, if one exists."""
    if name == "torch":
        return "fluxion"
    if not any(name == root or name.startswith(root + ".") for root in _MIRRORED):
        return None
    mirror = "fluxion" + name[len("torch") :]
    if mirror in sys.modules:
        return mirror
    try:
        return mirror if importlib.util.find_spec(mirror) else None
    except ModuleNotFoundError:
        return None


def _is_known(name: str) -> bool:
    return name in stubs.MODULES or _mirror_name(name) is not None


class _Finder:
    """Finds `torch` and everything below it, before any installed PyTorch."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "torch" and not name.startswith("torch."):
            return None
        if not _is_known(name):
            raise ModuleNotFoundError(f"{name} is not in Fluxion yet", name=name)
        return ModuleSpec(name, _Finder, is_package=True)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        mirror = _mirror_name(spec.name)
        module = importlib.import_module(mirror) if mirror else None
        return TorchModule(spec.name, stubs.MODULES.get(spec.name, {}), module)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        if module.__name__ == "torch":
            module.__version__ = stubs.VERSION  # type: ignore[attr-defined]


def install() -> None:
    """From now on `import torch` gives Fluxion. Raises RuntimeError if PyTorch is imported already."""
    loaded = sys.modules.get("torch")
    if isinstance(loaded, TorchModule):
        return
    if loaded is not None:
        raise RuntimeError(
            "compat.install: PyTorch is imported already; install() must come before it"
        )
    sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]
