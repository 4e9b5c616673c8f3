"""Multi-head attention whose projections are layers of their own, so that each can be replaced."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """The same as ``nn.MultiheadAttention`` in eval mode, with the linear layers ``q``, ``k``, ``v`` and ``out``.

    Takes and returns what ``nn.MultiheadAttention`` does, nested tensors (of padded sequences, from
    ``nn.TransformerEncoder``) too. What transformer layers ask it for is there; their own fast path is declined.
    Weights and biases are copies; with ``share`` they are those of the source, and ``out`` is its last layer.
    """

    _qkv_same_embed_dim = False

    def __init__(self, source: nn.MultiheadAttention, share: bool = False) -> None:
        super().__init__()
        self.num_heads, self.batch_first, self.dropout = source.num_heads, source.batch_first, source.dropout
        self.embed_dim = source.embed_dim
        if source._qkv_same_embed_dim:
            weights = source.in_proj_weight.detach().chunk(3)
        else:
            weights = tuple(w.detach() for w in (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight))
        biases = (None,) * 3 if source.in_proj_bias is None else source.in_proj_bias.detach().chunk(3)
        self.q, self.k, self.v = (linear(w, b, share) for w, b in zip(weights, biases, strict=True))
        self.out = source.out_proj if share else linear(source.out_proj.weight, source.out_proj.bias)
        self.train(source.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return outputs and, where wanted, attention weights, as ``nn.MultiheadAttention.forward`` does."""
        if query.is_nested:
            return self._nested(query, key, value), None
        alone = query.dim() == 2
        if alone:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (self._heads(f(x)) for f, x in ((self.q, query), (self.k, key), (self.v, value)))  # (B, H, T, C/H)
        mask = self._mask(q, k, key_padding_mask, attn_mask)
        weights = None
        if need_weights:
            scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
            weights = (scores if mask is None else scores + mask).softmax(-1)
            mixed = F.dropout(weights, self.dropout, self.training) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        out = self.out(mixed.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if alone:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _nested(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Outputs for sequences (T, C) of several lengths, each of which is attended to alone."""
        rows = zip(query.unbind(), key.unbind(), value.unbind(), strict=True)
        return torch.nested.as_nested_tensor([self.forward(*row, need_weights=False)[0] for row in rows])

    @property
    def out_proj(self) -> nn.Module:
        """The last projection, by its name in ``nn.MultiheadAttention``."""
        return self.out

    @property
    def in_proj_weight(self) -> Tensor | None:
        """The weights of the first three projections in one; None where they differ in width."""
        weights: list[Any] = [layer.weight for layer in (self.q, self.k, self.v)]
        return torch.cat(weights) if len({w.shape[1] for w in weights}) == 1 else None

    @property
    def in_proj_bias(self) -> Tensor | None:
        """Their biases in one, if they have any."""
        biases: list[Any] = [layer.bias for layer in (self.q, self.k, self.v)]
        return None if biases[0] is None else torch.cat(biases)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    @staticmethod
    def _mask(q: Tensor, k: Tensor, padding: Tensor | None, attention: Tensor | None) -> Tensor | None:
        masks = []
        if attention is not None:
            total = _additive(attention, q)
            masks.append(total.view(*q.shape[:3], k.shape[2]) if total.dim() == 3 else total)
        if padding is not None:
            masks.append(_additive(padding, q).view(-1, 1, 1, k.shape[2]))
        return sum(masks[1:], masks[0]) if masks else None


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """The mask to be added to scores: true entries of a boolean one are −∞."""
    if mask.dtype != torch.bool:
        return mask.to(like)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, -math.inf)


def linear(weight: Tensor, bias: Tensor | None, share: bool = False) -> nn.Linear:
    """Return a linear layer with copies of this weight and bias, or in their memory."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach() if share else weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach() if share else bias.detach().clone())
    return layer


def openable(layer: nn.Module) -> bool:
    """Return whether ``Attention`` can stand for a layer: one of torch's own class and forward, without extra rows."""
    if type(layer) is not nn.MultiheadAttention or "forward" in vars(layer):
        return False
    return layer.bias_k is None and layer.bias_v is None and not layer.add_zero_attn


@contextmanager
def opened(module: nn.Module) -> Iterator[dict[str, list[nn.Linear]]]:
    """In the block, attention in ``module`` runs as ``Attention``, and calls its ``out_proj``.

    Yield the other projections by the names of their weights: of queries, keys and values those that share one.
    """
    found: dict[str, list[nn.Linear]] = {}
    with ExitStack() as stack:
        for name, layer in module.named_modules():
            if not isinstance(layer, nn.MultiheadAttention) or not openable(layer):
                continue
            inside = Attention(layer, share=True)
            layer.forward = inside.forward  # type: ignore[method-assign]
            stack.callback(delattr, layer, "forward")
            prefix, projections = f"{name}.".lstrip("."), [inside.q, inside.k, inside.v]
            if layer._qkv_same_embed_dim:
                found[f"{prefix}in_proj_weight"] = projections
                layer._qkv_same_embed_dim = False  # transformer layers take their fast path past it otherwise
                stack.callback(setattr, layer, "_qkv_same_embed_dim", True)
            else:
                found |= {f"{prefix}{which}_proj_weight": [p] for which, p in zip("qkv", projections, strict=True)}
        yield found
