from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from zoo.llama import Attention, Llama, RMSNorm, SwiGLU, rotated

SIZES: dict[str, Any] = {"dim": 24, "depth": 2, "heads": 6, "shared": 2, "hidden": 40}


def net() -> Llama:
    torch.manual_seed(0)
    found = Llama(50, **SIZES).double()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter) + (parameter.ndim == 1))
    return found


def tokens() -> torch.Tensor:
    return torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_net_does_not_look_ahead() -> None:
    model, first = net(), tokens()
    second = first.clone()
    second[:, 5:] = 7
    a, b = model(first), model(second)
    assert torch.allclose(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5:], b[:, 5:], atol=1e-2)


def test_head_and_embedding_are_one() -> None:
    model = net()
    assert model.lm_head.weight is model.embed_tokens.weight
    per_block = 24 * 24 * 2 + 2 * 24 * 8 + 3 * 24 * 40 + 2 * 24
    assert sum(p.numel() for p in model.parameters()) == 50 * 24 + 2 * per_block + 24


@torch.no_grad()
def test_rotation_tells_only_how_far_apart_two_positions_are() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.randn(16, generator=generator).double().expand(1, 1, 12, 16) for _ in range(2))
    scores = rotated(q)[0, 0] @ rotated(k)[0, 0].T
    for distance in range(-11, 12):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5)
    assert torch.allclose(rotated(q).norm(dim=3), q.norm(dim=3))
    assert torch.equal(rotated(q)[..., 0, :], q[..., 0, :])


@torch.no_grad()
def test_heads_share_keys_and_values() -> None:
    """Against one head at a time, in plain sums."""
    torch.manual_seed(3)
    attention, x = Attention(24, 6, 2).double(), torch.randn(1, 5, 24).double()
    heads = []
    for h in range(6):
        own, group = slice(4 * h, 4 * h + 4), slice(4 * (h // 3), 4 * (h // 3) + 4)
        q = rotated(F.linear(x, attention.q_proj.weight[own])[None])[0, 0]
        k = rotated(F.linear(x, attention.k_proj.weight[group])[None])[0, 0]
        v = F.linear(x, attention.v_proj.weight[group])[0]
        scores = (q @ k.T / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(1) @ v)
    assert torch.allclose(attention(x)[0], torch.cat(heads, 1) @ attention.o_proj.weight.T)


@torch.no_grad()
def test_norm_and_gated_layer_by_their_formulas() -> None:
    torch.manual_seed(4)
    x = torch.randn(2, 3, 8)
    norm, gated = RMSNorm(8), SwiGLU(8, 12)
    norm.weight.copy_(torch.randn(8))
    wide = x.double()
    expected = wide / (wide.pow(2).sum(2, keepdim=True) / 8 + 1e-5).sqrt() * norm.weight
    assert torch.allclose(norm(x).double(), expected, atol=1e-6)
    gate, up = (wide @ layer.weight.double().T for layer in (gated.gate_proj, gated.up_proj))
    expected = (gate / (1 + (-gate).exp()) * up) @ gated.down_proj.weight.double().T
    assert torch.allclose(gated(x).double(), expected, atol=1e-6)


@torch.no_grad()
def test_as_transformers_has_it() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=40, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )
    theirs, ours = transformers.LlamaForCausalLM(config).double().eval(), net()
    state = {k if k.startswith("lm_head") else f"model.{k}": v for k, v in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    assert torch.allclose(theirs(tokens()).logits, ours(tokens()), atol=1e-5)
