"""Blocks of language models as they are built in 2026, and encoder-decoder models."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conformance.registry import Buffer, Net, both, case, normal, param, tokens


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.2 * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def rotated(x: Tensor) -> Tensor:
    """Rotary position embedding of (B, H, T, D)."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] / 100 ** (torch.arange(half) / half)
    one, two = x.split(half, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([one * cos - two * sin, one * sin + two * cos], -1)


class Attention(nn.Module):
    """Causal attention with rotary embeddings and fewer heads of keys than of queries."""

    def __init__(self, width: int = 16, heads: int = 4, groups: int = 2) -> None:
        super().__init__()
        self.heads, self.groups, size = heads, groups, width // heads
        self.q, self.k, self.v = linear(width, width), linear(width, groups * size), linear(width, groups * size)
        self.o = linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        source = x if memory is None else memory
        q = rotated(self.split(self.q(x), self.heads))
        k, v = rotated(self.split(self.k(source), self.groups)), self.split(self.v(source), self.groups)
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=memory is None)
        return self.o(mixed.transpose(1, 2).flatten(2))

    @staticmethod
    def split(x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    def __init__(self, width: int = 16, inner: int = 24) -> None:
        super().__init__()
        self.gate, self.up, self.down = linear(width, inner), linear(width, inner), linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, feed: nn.Module | None = None) -> None:
        super().__init__()
        self.norm1, self.attend, self.norm2, self.feed = RMSNorm(16), Attention(), RMSNorm(16), feed or SwiGLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.feed(self.norm2(x))


def language(*blocks: nn.Module, tied: bool = False) -> nn.Module:
    """Token ids (B, T) through blocks to logits (B, T, 20)."""

    def forward(s: Any, input_ids: Tensor) -> dict[str, Tensor]:
        x = s.embed(input_ids)
        for block in s.blocks:
            x = block(x)
        return {"logits": s.head(s.norm(x))}

    net = Net(forward, embed=nn.Embedding(20, 16), blocks=nn.ModuleList(blocks), norm=RMSNorm(16), head=linear(16, 20))
    if tied:
        net.head.weight = net.embed.weight
    return net


IDS = both(input_ids=tokens(6))
ROUTED = 0.8  # a few rows go to other experts


@case("rms norm", "language")
def rms() -> Any:
    return nn.Sequential(nn.Linear(12, 24), RMSNorm(24), nn.SiLU(), nn.Linear(24, 4)), normal(12)


@case("torch's own rms norm", "language")
def own_rms() -> Any:
    norm = nn.RMSNorm(24) if hasattr(nn, "RMSNorm") else RMSNorm(24)
    return nn.Sequential(nn.Linear(12, 24), norm, nn.SiLU(), nn.Linear(24, 4)), normal(12)


@case("rotary and grouped-query attention", "language")
def grouped_query() -> Any:
    return nn.Sequential(Attention(), nn.Linear(16, 4)), normal(5, 16)


@case("swiglu", "language")
def swiglu() -> Any:
    return nn.Sequential(SwiGLU(12), nn.Linear(12, 4)), normal(12)


@case("llama-like model", "language")
def llama() -> Any:
    return language(Block()), IDS


@case("llama-like model, tied embeddings", "language")
def tied_llama() -> Any:
    return language(Block(), tied=True), IDS


@case("one block shared by all depths", "language")
def albert() -> Any:
    block = Block()
    return language(block, block, tied=True), IDS


class Experts(nn.Module):
    """Each row to the expert that a gate chooses; the last expert is never chosen."""

    def __init__(self, *experts: nn.Module, width: int) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(width, len(experts)), nn.ModuleList(experts)
        with torch.no_grad():
            self.gate.bias[-1] = -100.0

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2) if x.dim() == 3 else x
        chosen = self.gate(rows if rows.dim() == 2 else rows.mean((2, 3))).argmax(1)
        result = torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            result[chosen == number] = expert(rows[chosen == number])
        return result.view(x.shape)


@case("mixture of linear experts, one idle", "language")
def experts() -> Any:
    moe = Experts(*(SwiGLU(16, 12) for _ in range(3)), width=16)
    return nn.Sequential(nn.Linear(16, 16), moe, nn.Linear(16, 4)), normal(16), {"close": ROUTED}


@case("mixture of convolutional experts, one idle", "language")
def conv_experts() -> Any:
    moe = Experts(*(nn.Conv2d(6, 6, 3, padding=1) for _ in range(3)), width=6)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), moe, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4))
    return net, normal(2, 6, 6), {"close": ROUTED}


@case("mixture of experts in a language model", "language")
def moe_language() -> Any:
    return language(Block(Experts(*(SwiGLU(16, 12) for _ in range(3)), width=16))), IDS


@case("mixture of experts in bare stacked parameters", "language")
def stacked_experts() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        weights, chosen = s.gate(x).softmax(-1).topk(2, -1)
        up = torch.einsum("bi,bkio->bko", x, s.up[chosen])
        down = torch.einsum("bko,bkoi->bki", F.silu(up), s.down[chosen])
        return s.head(x + (weights[..., None] * down).sum(1))

    parts = {"gate": nn.Linear(12, 4), "up": param(4, 12, 8), "down": param(4, 8, 12), "head": nn.Linear(12, 4)}
    return Net(forward, **parts), normal(12)


class Scan(nn.Module):
    """A selective state space: bare parameters, a depthwise convolution, and a recurrence over time."""

    def __init__(self, width: int = 8, states: int = 4) -> None:
        super().__init__()
        self.into, self.conv = linear(16, 2 * width), nn.Conv1d(width, width, 3, padding=2, groups=width)
        self.select, self.out = linear(width, 2 * states + 1), linear(width, 16)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(width, 1))
        self.D, self.dt_bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.randn(width))
        self.states = states

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.into(x).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        dt, write, read = self.select(u).split([1, self.states, self.states], -1)
        step = F.softplus(dt + self.dt_bias)
        decay = torch.exp(-step[..., None] * self.A_log.exp())
        state, outputs = torch.zeros(len(x), u.shape[-1], self.states).to(x), []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + (step * u)[:, t, :, None] * write[:, t, None]
            outputs.append((state * read[:, t, None]).sum(-1))
        return self.out((torch.stack(outputs, 1) + u * self.D) * F.silu(gate))


@case("mamba-like scan with bare parameters", "language")
def scan() -> Any:
    return language(Net(lambda s, x: x + s.mix(s.norm(x)), norm=RMSNorm(16), mix=Scan())), IDS


class Lora(nn.Module):
    """A frozen layer and a trained correction of low rank beside it, under the names that peft gives them."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": linear(base.in_features, rank)})
        self.lora_B = nn.ModuleDict({"default": linear(rank, base.out_features)})

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + 2 * self.lora_B["default"](self.lora_A["default"](x))


@case("lora around linear layers", "language")
def lora() -> Any:
    return nn.Sequential(Lora(nn.Linear(12, 16)), nn.Tanh(), Lora(nn.Linear(16, 4))), normal(12)


@case("lora in a llama-like model", "language")
def lora_llama() -> Any:
    net = language(Block(), tied=True).requires_grad_(False)
    attend = net.blocks[0].attend
    attend.q, attend.v = Lora(attend.q), Lora(attend.v)
    return net, IDS


@case("lora that starts at zero", "language")
def zero_lora() -> Any:
    layer = Lora(nn.Linear(12, 16))
    nn.init.zeros_(layer.lora_B["default"].weight)
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(16, 4)), normal(12)


class T5(nn.Module):
    """Encoder and decoder with shared embeddings, relative position bias and a head that is tied and scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Embedding(20, 16)
        self.encoder = nn.Module()
        self.encoder.embed_tokens, self.encoder.bias = self.shared, nn.Embedding(9, 4)
        self.encoder.attend, self.encoder.norm = Attention(groups=4), RMSNorm(16)
        self.decoder = nn.Module()
        self.decoder.embed_tokens, self.decoder.attend = self.shared, Attention(groups=4)
        self.decoder.cross, self.decoder.feed, self.decoder.norm = Attention(groups=4), SwiGLU(), RMSNorm(16)
        self.lm_head = linear(16, 20)
        self.lm_head.weight = self.shared.weight

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.encoder.embed_tokens(input_ids)
        apart = (torch.arange(x.shape[1]) - torch.arange(x.shape[1])[:, None]).clamp(-4, 4) + 4
        bias = self.encoder.bias(apart).mean(-1).softmax(-1)
        memory = self.encoder.norm(x + self.encoder.attend(x) + bias @ x)
        y = self.decoder.embed_tokens(decoder_input_ids)
        y = y + self.decoder.attend(y)
        y = y + self.decoder.cross(y, memory)
        return self.lm_head(self.decoder.norm(y + self.decoder.feed(y)) / math.sqrt(16)), memory


@case("t5-like encoder-decoder", "language")
def t5() -> Any:
    return T5(), both(input_ids=tokens(5), decoder_input_ids=tokens(4))


@case("bart-like encoder-decoder", "language")
def bart() -> Any:
    def forward(s: Any, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = s.shared(input_ids) + s.places.weight[: input_ids.shape[1]]
        hidden = ~attention_mask.bool()
        memory = s.encoder(x, src_key_padding_mask=hidden)
        start = s.shared(input_ids.roll(1, 1)) + s.places.weight[: input_ids.shape[1]]
        return {"memory": memory, "logits": s.head(s.decoder(start, memory)) + s.final_logits_bias}

    def mask(count: int) -> Tensor:
        return (torch.arange(5) < torch.randint(2, 6, (count, 1))).long()

    parts: dict[str, Any] = {"shared": nn.Embedding(20, 16), "places": nn.Embedding(9, 16)}
    parts["encoder"] = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    parts["decoder"] = nn.TransformerDecoderLayer(16, 4, 24, batch_first=True)
    net = Net(forward, **parts, head=linear(16, 20), final_logits_bias=Buffer(torch.zeros(1, 20)))
    net.head.weight = net.shared.weight
    return net.eval(), both(input_ids=tokens(5), attention_mask=mask)


@case("key-value cache kept in the module", "language")
def cache() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        s.cache = s.k(x)
        return s.head(torch.tanh(x + s.cache.cumsum(1)))

    return Net(forward, k=nn.Linear(12, 12), head=nn.Linear(12, 4), cache=None), normal(4, 12)


@case("learned prompt before frozen layers", "language")
def prompt() -> Any:
    def forward(s: Any, input_ids: Tensor) -> Tensor:
        x = torch.cat([s.prompt.expand(len(input_ids), -1, -1), s.body.embed(input_ids)], 1)
        return s.body.head(s.body.norm(s.body.blocks[0](x)))

    return Net(forward, body=language(Block()).requires_grad_(False), prompt=param(1, 3, 16)), IDS


@case("conv1d of gpt-2", "language")
def gpt2() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        return s.head(x + F.gelu(torch.addmm(s.bias, x, s.weight)) @ s.back)

    return Net(forward, weight=param(12, 24), bias=param(24), back=param(24, 12), head=nn.Linear(12, 4)), normal(12)
