"""The default generator of random numbers."""

from __future__ import annotations

from fluxion._C import (
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = [
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
]


class fork_rng:
    """Restores the state of the default generator at the end of the `with` block."""

    def __init__(self, devices: Iterable | None = None, enabled: bool = True) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        if self._enabled:
            self._state = get_rng_state()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._enabled:
            set_rng_state(self._state)
