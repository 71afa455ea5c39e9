"""Embedding, padding, resizing and rearranging."""

from __future__ import annotations

from fluxion import _C, Tensor

from ._common import tuple_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

embedding = _C.embedding
fold = _C.fold
one_hot = _C.one_hot
pad = _C.pad
unfold = _C.unfold


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resizes the spatial dims of (N, C, ...) to `size` or by `scale_factor`.

    Modes: `nearest`, `nearest-exact`, `linear`, `bilinear`, `trilinear`, `area`.
    """
    dims = input.dim() - 2
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    if antialias or mode not in ("nearest", "nearest-exact", "area", *_LINEAR):
        raise NotImplementedError(
            f"interpolate: mode {mode!r}{' with antialias' * antialias} is not in Fluxion yet"
        )
    if align_corners is not None and mode not in _LINEAR:
        raise ValueError(f"interpolate: align_corners goes with linear modes only, got {mode!r}")
    if mode in _LINEAR and _LINEAR[mode] != dims:
        raise NotImplementedError(
            f"interpolate: {mode} needs {_LINEAR[mode] + 2} dims, got {dims + 2}"
        )
    old = tuple(input.shape[2:])
    if size is not None:
        new = tuple_of(size, dims)
        steps: list[float | None] = [None] * dims
    else:
        given = isinstance(scale_factor, (int, float))
        factors = (float(scale_factor),) * dims if given else tuple(scale_factor)
        new = tuple(int(n * factor) for n, factor in zip(old, factors))
        steps = [None if recompute_scale_factor else 1.0 / factor for factor in factors]
    if len(new) != dims:
        raise ValueError(f"interpolate: needs {dims} sizes, got {len(new)}")
    if mode == "area":
        from ._pooling import _adaptive_mean

        for i in range(dims):
            input = _adaptive_mean(input, i + 2, new[i])
        return input
    for i in range(dims):
        step = steps[i] if steps[i] is not None else old[i] / new[i]
        input = _resize(input, i + 2, new[i], step, mode, bool(align_corners))
    return input


_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}


def _resize(input: Tensor, dim: int, new: int, step: float, mode: str, corners: bool) -> Tensor:
    """Resamples one dim; `step` is how far one output element moves in the input."""
    old = input.shape[dim]
    if mode not in _LINEAR:
        shift = 0.5 if mode == "nearest-exact" else 0.0
        index = [min(int((i + shift) * step), old - 1) for i in range(new)]
        return input.index_select(dim, _C.tensor(index, dtype=_C.int64))
    if corners:
        step = (old - 1) / (new - 1) if new > 1 else 0.0
        places = [i * step for i in range(new)]
    else:
        places = [max((i + 0.5) * step - 0.5, 0.0) for i in range(new)]
    low = [min(int(place), old - 1) for place in places]
    high = [min(i + 1, old - 1) for i in low]
    shape = (-1, *[1] * (input.dim() - 1 - dim))
    weight = _C.tensor([p - i for p, i in zip(places, low)], dtype=input.dtype).view(shape)
    left = input.index_select(dim, _C.tensor(low, dtype=_C.int64))
    right = input.index_select(dim, _C.tensor(high, dtype=_C.int64))
    return left * (1 - weight) + right * weight


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r^2, H, W) to (..., C, H r, W r)."""
    r = upscale_factor
    *batch, channels, height, width = input.shape
    if channels % (r * r):
        raise RuntimeError(
            f"pixel_shuffle: channels must be divisible by upscale_factor ** 2 = {r * r}, got {channels}"
        )
    parts = input.reshape(-1, channels // (r * r), r, r, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(*batch, channels // (r * r), height * r, width * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H r, W r) to (..., C r^2, H, W)."""
    r = downscale_factor
    *batch, channels, height, width = input.shape
    if height % r or width % r:
        raise RuntimeError(
            f"pixel_unshuffle: height and width must be divisible by {r}, got {height} and {width}"
        )
    parts = input.reshape(-1, channels, height // r, r, width // r, r).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(*batch, channels * r * r, height // r, width // r)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between `x1` and `x2` along `dim`; norms are at least `eps`."""
    norm1 = (x1 * x1).sum(dim).clamp(min=eps * eps).sqrt()
    norm2 = (x2 * x2).sum(dim).clamp(min=eps * eps).sqrt()
    return (x1 * x2).sum(dim) / (norm1 * norm2)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of `x1 - x2 + eps` along the last dim."""
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)
