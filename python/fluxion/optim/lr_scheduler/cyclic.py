"""Schedules that follow a curve between two rates."""

from __future__ import annotations

import math

from .base import LRScheduler, per_group, set_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..optimizer import Optimizer


def _cosine(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a cosine; `done` goes from 0 to 1."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * done) + 1.0)


def _straight(start: float, end: float, done: float) -> float:
    return (end - start) * done + start


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial rate to `eta_min` in `T_max` epochs, then back up, and so on."""

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        epoch, period, low = self.last_epoch, self.T_max, self.eta_min
        if epoch == 0:
            return self._current()
        if self._step_count == 1:  # resumed: there is no rate of the epoch before
            return self._get_closed_form_lr()
        pairs = zip(self.base_lrs, self._current())
        if (epoch - 1 - period) % (2 * period) == 0:  # the rate before is eta_min itself
            rise = (1 - math.cos(math.pi / period)) / 2
            return [lr + (base - low) * rise for base, lr in pairs]
        now = 1 + math.cos(math.pi * epoch / period)
        before = 1 + math.cos(math.pi * (epoch - 1) / period)
        return [now / before * (lr - low) + low for _, lr in pairs]

    def _get_closed_form_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from the initial rate to `eta_min` in `T_0` epochs, again and again, each `T_mult` times longer.

    `step` also takes a fractional epoch (Loshchilov and Hutter 2017).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if value < 1 or not isinstance(value, int):
                raise ValueError(
                    f"CosineAnnealingWarmRestarts: {name} must be an int >= 1, got {value}"
                )
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Moves on by one epoch, or to `epoch`, and sets the rates."""
        self._step_to(epoch)

    def _step_to(self, epoch: float | None) -> None:
        self._step_count += 1
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        elif epoch < 0:
            raise ValueError(
                f"CosineAnnealingWarmRestarts: epoch must not be negative, got {epoch}"
            )
        else:
            self._seek(epoch)
        self.last_epoch = math.floor(epoch)
        self._set_rates(self.get_lr())

    def _seek(self, epoch: float) -> None:
        """Finds the cycle that `epoch` lies in."""
        if epoch < self.T_0:
            self.T_cur, self.T_i = epoch, self.T_0
        elif self.T_mult == 1:
            self.T_cur, self.T_i = epoch % self.T_0, self.T_0
        else:
            cycle = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            start = self.T_0 * (self.T_mult**cycle - 1) / (self.T_mult - 1)
            self.T_cur, self.T_i = epoch - start, self.T_0 * self.T_mult**cycle


class _CyclesMomentum(LRScheduler):
    """A schedule that moves momentum (or the first of `betas`) against the rate."""

    cycle_momentum: bool

    def _find_momentum(self, optimizer: Optimizer) -> None:
        defaults = optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise ValueError(
                f"{type(self).__name__}: cycle_momentum needs an optimizer with momentum or betas"
            )
        self._use_betas = "betas" in defaults

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self._use_betas:
            group["betas"] = (value, *group["betas"][1:])
        else:
            set_option(group, "momentum", value)


class OneCycleLR(_CyclesMomentum):
    """From `max_lr / div_factor` up to `max_lr` and down far below, once, in `total_steps` (Smith and Topin 2018)."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be a float in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        self._anneal = "_cosine" if anneal_strategy == "cos" else "_straight"
        self._schedule_phases = self._phases(pct_start, three_phase)
        self.cycle_momentum = cycle_momentum
        highs = per_group(optimizer, "max_lr", max_lr)
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, highs):
                group["initial_lr"] = high / div_factor
                group["max_lr"] = high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            self._find_momentum(optimizer)
            lows = per_group(optimizer, "base_momentum", base_momentum)
            peaks = per_group(optimizer, "max_momentum", max_momentum)
            if last_epoch == -1:
                for group, low, peak in zip(optimizer.param_groups, lows, peaks):
                    self._set_momentum(group, peak)
                    group["base_momentum"] = low
                    group["max_momentum"] = peak
        super().__init__(optimizer, last_epoch)

    def _phases(
        self, pct_start: float, three_phase: bool
    ) -> list[tuple[float, str, str, str, str]]:
        """(last step, rate from, rate to, momentum from, momentum to) of each phase."""
        last, rise = self.total_steps - 1, pct_start * self.total_steps
        up = ("initial_lr", "max_lr", "max_momentum", "base_momentum")
        if not three_phase:
            return [
                (rise - 1, *up),
                (last, "max_lr", "min_lr", "base_momentum", "max_momentum"),
            ]
        return [
            (rise - 1, *up),
            (2 * rise - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
            (last, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
        ]

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(
                f"OneCycleLR: step {step} is beyond the schedule's {self.total_steps} steps"
            )
        anneal = _cosine if self._anneal == "_cosine" else _straight
        start = 0.0
        for phase in self._schedule_phases:
            end, rate_from, rate_to, momentum_from, momentum_to = phase
            if step <= end or phase is self._schedule_phases[-1]:
                break
            start = end
        done = (step - start) / (end - start)
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            for group in groups:
                self._set_momentum(group, anneal(group[momentum_from], group[momentum_to], done))
        return [anneal(group[rate_from], group[rate_to], done) for group in groups]


def _total_steps(total: int | None, epochs: int | None, per_epoch: int | None) -> int:
    if total is None and (epochs is None or per_epoch is None):
        raise ValueError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
    given = {"total_steps": total} if total is not None else {}
    if total is None:
        given = {"epochs": epochs, "steps_per_epoch": per_epoch}
    for name, value in given.items():
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"OneCycleLR: {name} must be a positive int, got {value}")
    return total if total is not None else epochs * per_epoch  # type: ignore[operator]


class CyclicLR(_CyclesMomentum):
    """Back and forth between `base_lr` and `max_lr` (Smith 2017).

    The amplitude stays (`triangular`), halves every cycle (`triangular2`) or shrinks by `gamma` every step
    (`exp_range`); `scale_fn` gives another factor, of the cycle or of the step as `scale_mode` says.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError("CyclicLR: mode is invalid and scale_fn is None")
        self.optimizer = optimizer
        lows = per_group(optimizer, "base_lr", base_lr)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, lows):
                set_option(group, "lr", low)
        self.max_lrs = per_group(optimizer, "max_lr", max_lr)
        up = float(step_size_up)
        down = float(step_size_down) if step_size_down is not None else up
        self.total_size = up + down
        self.step_ratio = up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn = scale_fn
        by_step = mode == "exp_range" if scale_fn is None else scale_mode != "cycle"
        self.scale_mode = "iterations" if by_step else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._find_momentum(optimizer)
            self.base_momentums = per_group(optimizer, "base_momentum", base_momentum)
            self.max_momentums = per_group(optimizer, "max_momentum", max_momentum)
            if last_epoch == -1:
                peaks = zip(self.max_momentums, self.base_momentums, optimizer.param_groups)
                for peak, low, group in peaks:
                    self._set_momentum(group, peak)
                    group["max_momentum"] = peak
                    group["base_momentum"] = low
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lows

    def scale_fn(self, x: float) -> float:
        """The factor on the amplitude, at cycle or step `x`."""
        if self._scale_fn is not None:
            return self._scale_fn(x)
        if self.mode == "triangular":
            return 1.0
        return 1 / 2.0 ** (x - 1) if self.mode == "triangular2" else self.gamma**x

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            groups = self.optimizer.param_groups
            for low, high, group in zip(self.base_momentums, self.max_momentums, groups):
                self._set_momentum(group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs)]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and the scale function."""
        return {k: v for k, v in super().state_dict().items() if k != "_scale_fn"}
