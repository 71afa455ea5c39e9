"""The sampler of training with several processes, where PyTorch has it."""

from __future__ import annotations

from .sampler import DistributedSampler

__all__ = ["DistributedSampler"]
