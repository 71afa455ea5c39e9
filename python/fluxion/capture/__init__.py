"""Capture: the same Python code, written down once and repeated without Python."""

from .compiled import Compiled, compile

__all__ = ["Compiled", "compile"]
