"""The base class of schedules."""

from __future__ import annotations

from fluxion import Tensor

from ..optimizer import Optimizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LRScheduler"]


class LRScheduler:
    """Base class of schedules. A subclass defines `get_lr`, the rate of each group at `self.last_epoch`.

    Schedules work on the current rate, so several on one optimizer multiply. `last_epoch` other than -1 resumes:
    the groups must then hold "initial_lr".
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: expected an Optimizer, got {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                lr = group["lr"]
                group.setdefault("initial_lr", lr.clone() if isinstance(lr, Tensor) else lr)
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming an optimizer"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        _watch_first_step(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[float]:
        """The rates that the last `step()` set, one for each group."""
        return self._last_lr

    def get_lr(self) -> list[float]:
        """The rate of each group at `self.last_epoch`; called by `step()`."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def _current(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Moves on by one and sets the rates. Giving `epoch` is deprecated."""
        if self._step_count == 1 and not getattr(self.optimizer, "_opt_called", True):
            _warn(
                "lr_scheduler.step() was called before optimizer.step(): the first rate of the schedule is "
                "skipped; call optimizer.step() first"
            )
        if epoch is not None:
            _warn("the epoch argument of lr_scheduler.step() is deprecated")
        self._step_to(epoch)

    def _step_to(self, epoch: int | None) -> None:
        """Sets the rates for `epoch`, by the closed form where there is one; None: for the next one."""
        self._step_count += 1
        if epoch is None:
            self.last_epoch += 1
            rates = self.get_lr()
        else:
            self.last_epoch = epoch
            closed = getattr(self, "_get_closed_form_lr", None)
            rates = self.get_lr() if closed is None else closed()
        self._set_rates(rates)

    def _set_rates(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates):
            set_option(group, "lr", rate)
        self._last_lr = self._current()


def set_option(group: dict[str, Any], name: str, value: float) -> None:
    """Sets an option; one that is a tensor is filled, so that whoever holds it sees the change."""
    if isinstance(group[name], Tensor):
        group[name].fill_(float(value))
    else:
        group[name] = value


def per_group(optimizer: Optimizer, name: str, value: Any) -> list[Any]:
    """`value` once for each group; a list or tuple must have that length already."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"expected {count} values for {name}, one for each group, got {len(value)}"
        )
    return list(value)


def _watch_first_step(optimizer: Any) -> None:
    """Lets the first `optimizer.step()` set `optimizer._opt_called`; later steps cost nothing extra."""
    if hasattr(optimizer, "_opt_called"):
        return
    optimizer._opt_called = False
    plain = optimizer.step
    own = optimizer.__dict__.get("step")

    def step(*args: Any, **kwargs: Any) -> Any:
        optimizer._opt_called = True
        if optimizer.__dict__.get("step") is step:
            if own is None:
                del optimizer.step
            else:
                optimizer.step = own
        return plain(*args, **kwargs)

    optimizer.step = step


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, UserWarning, stacklevel=3)
