"""A decoder of the Llama architecture (Touvron et al. 2023), for training and running small ones here.

Pre-norm blocks of RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), grouped-query attention
(Ainslie et al. 2023) and SwiGLU (Shazeer 2020); no biases; the head is the embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BASE = 10_000.0  # of rotary angles


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps), computed in float32, times a gain per channel."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def rotated(x: Tensor) -> Tensor:
    """Queries or keys (B, H, T, D), each pair of channels (i, i + D/2) turned by an angle that grows with position."""
    half = x.shape[3] // 2
    rates = BASE ** -(torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = torch.arange(x.shape[2], device=x.device)[:, None] * rates  # (T, D/2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Attention(nn.Module):
    """Causal attention in which several heads of queries share one of keys and values."""

    def __init__(self, dim: int, heads: int, shared: int) -> None:
        super().__init__()
        self.heads, self.shared = heads, shared
        width = dim // heads
        self.q_proj = nn.Linear(dim, heads * width, bias=False)
        self.k_proj = nn.Linear(dim, shared * width, bias=False)
        self.v_proj = nn.Linear(dim, shared * width, bias=False)
        self.o_proj = nn.Linear(heads * width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        q, k, v = (f(x).unflatten(2, (count, -1)).transpose(1, 2) for f, count in (
            (self.q_proj, self.heads), (self.k_proj, self.shared), (self.v_proj, self.shared)))  # (B, H, T, D)
        k, v = (y.repeat_interleave(self.heads // self.shared, 1) for y in (rotated(k), v))
        mixed = F.scaled_dot_product_attention(rotated(q), k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x))."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention, then a SwiGLU, each after a norm and added to its input."""

    def __init__(self, dim: int, heads: int, shared: int, hidden: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(dim)
        self.self_attn = Attention(dim, heads, shared)
        self.post_attention_layernorm = RMSNorm(dim)
        self.mlp = SwiGLU(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Tokens (B, T) -> logits (B, T, V) of the token after each; ``lm_head.weight`` is ``embed_tokens.weight``."""

    def __init__(self, vocabulary: int, dim: int, depth: int, heads: int, shared: int, hidden: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, dim)
        self.layers = nn.ModuleList([Block(dim, heads, shared, hidden) for _ in range(depth)])
        self.norm = RMSNorm(dim)
        self.lm_head = nn.Linear(dim, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth) if into_stream else 0.02)
        self.lm_head.weight = self.embed_tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))
