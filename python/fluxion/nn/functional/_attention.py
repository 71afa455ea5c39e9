"""Attention."""

from __future__ import annotations

import math

from fluxion import _C, Tensor

from ._norm import dropout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`softmax(query @ key.T * scale + attn_mask) @ value` over (..., heads, length, features).

    A bool mask says what takes part, a float mask is added; `scale` is `1 / sqrt(features)` unless given;
    `enable_gqa` lets groups of query heads share a key and value head.
    """
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        key = _repeat_heads(key, query.shape[-3])
        value = _repeat_heads(value, query.shape[-3])
    return _C.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attn_mask,
        dropout_p=dropout_p,
        is_causal=is_causal,
        scale=scale,
    )


def _repeat_heads(tensor: Tensor, heads: int) -> Tensor:
    have = tensor.shape[-3]
    if heads % have:
        raise RuntimeError(
            f"scaled_dot_product_attention: {heads} query heads must be a multiple of {have} key heads"
        )
    return tensor.repeat_interleave(heads // have, -3)


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    separate: tuple[Tensor, Tensor, Tensor] | None,
) -> tuple[Tensor, ...]:
    """Query, key and value after their input projections (one stacked weight, or three)."""
    if separate is None and query is key and key is value:
        return _C.linear(query, in_proj_weight, in_proj_bias).chunk(3, -1)
    weights = in_proj_weight.chunk(3) if separate is None else separate
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    return tuple(_C.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))


def _as_added_mask(mask: Tensor, dtype: Any) -> Tensor:
    """A bool mask of what is left out, or a float mask that is added, as the latter."""
    if mask.dtype == _C.bool:
        return _C.zeros(mask.shape, dtype=dtype).masked_fill(mask, -math.inf)
    if not mask.dtype.is_floating_point:
        raise TypeError(f"attention masks must be bool or floating point, got {mask.dtype}")
    return mask.to(dtype)


def _merge_masks(
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    shape: tuple[int, int, int, int],
    dtype: Any,
) -> Tensor | None:
    """One added mask that broadcasts to `shape` = (batch, heads, targets, sources), or None."""
    batch, heads, targets, sources = shape
    mask = None
    if attn_mask is not None:
        wanted = (targets, sources) if attn_mask.dim() == 2 else (batch * heads, targets, sources)
        if tuple(attn_mask.shape) != wanted:
            raise RuntimeError(
                f"attn_mask must have shape ({targets}, {sources}) or "
                f"({batch * heads}, {targets}, {sources}), got {tuple(attn_mask.shape)}"
            )
        mask = _as_added_mask(attn_mask, dtype)
        if mask.dim() == 3:
            mask = mask.view(shape)
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (batch, sources):
            raise RuntimeError(
                f"key_padding_mask must have shape ({batch}, {sources}), "
                f"got {tuple(key_padding_mask.shape)}"
            )
        padding = _as_added_mask(key_padding_mask, dtype).view(batch, 1, 1, sources)
        mask = padding if mask is None else mask + padding
    return mask


def _extend_sources(mask: Tensor | None, count: int) -> Tensor | None:
    """A mask with `count` more sources that take part."""
    if mask is None or not count:
        return mask
    return _C.cat([mask, _C.zeros((*mask.shape[:-1], count), dtype=mask.dtype)], -1)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention over (length, batch, features) or (length, features); see `MultiheadAttention`."""
    if static_k is not None or static_v is not None:
        raise NotImplementedError(
            "multi_head_attention_forward: static_k and static_v are not in Fluxion yet"
        )
    batched = query.dim() == 3
    if query.dim() not in (2, 3) or key.dim() != query.dim() or value.dim() != query.dim():
        raise RuntimeError(
            "query, key and value must all be (length, batch, features) or all (length, features), "
            f"got {query.dim()}, {key.dim()} and {value.dim()} dims"
        )
    if query.shape[-1] != embed_dim_to_check:
        raise RuntimeError(
            f"query must have {embed_dim_to_check} features (embed_dim), got {query.shape[-1]}"
        )
    if key.shape[:-1] != value.shape[:-1]:
        raise RuntimeError(
            f"key and value must agree in length and batch, got {tuple(key.shape)} and {tuple(value.shape)}"
        )
    if is_causal and attn_mask is None:
        raise RuntimeError("is_causal is a hint about attn_mask: give the mask too")
    if not batched:
        same = query is key and key is value
        query = query.unsqueeze(1)
        key, value = (query, query) if same else (key.unsqueeze(1), value.unsqueeze(1))
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    targets, batch, features = query.shape
    size = features // num_heads
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias, separate)
    shape = (batch, num_heads, targets, key.shape[0])
    plain = key_padding_mask is None and bias_k is None and not (add_zero_attn or need_weights)
    causal = is_causal and plain  # the mask is then the causal one, which the kernel knows
    if causal:
        attn_mask = None
    mask = _merge_masks(attn_mask, key_padding_mask, shape, q.dtype)
    if bias_k is not None and bias_v is not None:
        k = _C.cat([k, bias_k.expand(1, batch, features)])
        v = _C.cat([v, bias_v.expand(1, batch, features)])
        mask = _extend_sources(mask, 1)

    def heads(x: Tensor) -> Tensor:  # (length, batch, features) -> (batch, heads, length, size)
        return x.reshape(x.shape[0], batch, num_heads, size).permute(1, 2, 0, 3)

    q, k, v = heads(q), heads(k), heads(v)
    if add_zero_attn:
        zero = _C.zeros((batch, num_heads, 1, size), dtype=k.dtype)
        k, v = _C.cat([k, zero], 2), _C.cat([v, zero], 2)
        mask = _extend_sources(mask, 1)
    dropout_p = dropout_p if training else 0.0
    weights = None
    if need_weights:
        scores = (q * (1.0 / math.sqrt(size))) @ k.transpose(-2, -1)
        weights = _C.softmax(scores if mask is None else scores + mask, -1)
        weights = dropout(weights, dropout_p)
        output = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        output = _C.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout_p, is_causal=causal
        )
    output = output.permute(2, 0, 1, 3).reshape(targets, batch, features)
    output = _C.linear(output, out_proj_weight, out_proj_bias)
    if not batched:
        output = output.squeeze(1)
        weights = None if weights is None else weights.squeeze(0)
    return output, weights
