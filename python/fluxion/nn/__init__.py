"""Neural networks: modules, functions, initialisation."""

# ruff: noqa: F403
from __future__ import annotations

from . import functional, init, modules, utils
from .modules import *
from .parameter import Buffer, Parameter

__all__ = ["Buffer", "Parameter", "functional", "init", "modules", "utils", *modules.__all__]
