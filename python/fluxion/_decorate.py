"""What the gradient modes of the extension use when they decorate a function."""

from __future__ import annotations

import functools
import inspect
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any


def decorate(mode: Any, function: Callable) -> Callable:
    """`function` with every call - of a generator, every step - inside a fresh manager like `mode`."""
    if not callable(function):
        raise TypeError(f"a gradient mode decorates a function, not {type(function).__name__}")
    clone = mode.clone
    if inspect.isgeneratorfunction(function):
        return _decorate_generator(clone, function)

    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with clone():
            return function(*args, **kwargs)

    return inside


def _decorate_generator(clone: Callable, function: Callable) -> Callable:
    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Generator:
        with clone():
            steps = function(*args, **kwargs)
        step, value = steps.send, None
        while True:
            try:
                with clone():
                    result = step(value)
            except StopIteration as end:
                return end.value
            try:
                step, value = steps.send, (yield result)
            except GeneratorExit:
                with clone():
                    steps.close()
                raise
            except BaseException:
                step, value = steps.throw, sys.exc_info()[1]

    return inside
