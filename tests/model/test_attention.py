from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from noworse.model.attention import Attention, openable
from noworse.propose.ranks.build import open_fused

MASKS = {"none": None, "boolean": torch.ones(5, 5).triu(1).bool(), "additive": torch.randn(5, 5)}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("weights", ["mean", "all", "none"])
@pytest.mark.parametrize("arguments", [{}, {"batch_first": True}, {"bias": False}, {"kdim": 6, "vdim": 10}])
def test_outputs_and_weights_are_those_of_torch(mask, padded, weights, arguments):
    torch.manual_seed(0)
    source = nn.MultiheadAttention(8, 2, **arguments).eval()
    batch_first = arguments.get("batch_first", False)
    inputs = [torch.randn(3, 5, size) for size in (8, arguments.get("kdim", 8), arguments.get("vdim", 8))]
    if not batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
    padding = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 1]]).bool() if padded else None
    options = {"need_weights": weights != "none", "average_attn_weights": weights == "mean"}
    options.update(attn_mask=MASKS[mask], key_padding_mask=padding)
    if padded and mask == "additive":
        options["key_padding_mask"] = torch.zeros(3, 5).masked_fill(padding, -torch.inf)
    expected, found = source(*inputs, **options), Attention(source)(*inputs, **options)
    torch.testing.assert_close(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None)
    if found[1] is not None:
        torch.testing.assert_close(found[1], expected[1])


def test_one_sequence_without_a_batch():
    source, x = nn.MultiheadAttention(8, 2).eval(), torch.randn(5, 8)
    for found, expected in zip(Attention(source)(x, x, x), source(x, x, x), strict=True):
        torch.testing.assert_close(found, expected)


def test_transformer_layers_do_not_take_their_fast_path():
    torch.manual_seed(0)
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.randn(3, 5, 8)
    expected = layer(x)
    layer.self_attn = Attention(layer.self_attn)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)


def test_odd_attention_stays_closed():
    assert openable(nn.MultiheadAttention(8, 2))
    assert not openable(nn.MultiheadAttention(8, 2, add_bias_kv=True))
    assert not openable(nn.MultiheadAttention(8, 2, add_zero_attn=True))
    assert not openable(nn.Linear(2, 2))


def test_an_encoder_that_packs_padded_sequences_takes_it():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True), 2).eval()
    opened, x = copy.deepcopy(encoder), torch.randn(3, 6, 8)
    open_fused(opened)
    padding = torch.zeros(3, 6, dtype=torch.bool)
    padding[0, 4:] = padding[1, 5:] = True
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            found, expected = (m(x, src_key_padding_mask=padding) for m in (opened, encoder))
        torch.testing.assert_close(found[~padding], expected[~padding], atol=1e-5, rtol=1e-5)
        assert torch.equal(found[padding] == 0, expected[padding] == 0)
    assert torch.equal(opened.layers[0].self_attn.in_proj_weight, encoder.layers[0].self_attn.in_proj_weight)


def test_attention_of_a_class_of_its_own_stays():
    class Loud(nn.MultiheadAttention):
        def forward(self, *args, **kwargs):
            out, weights = super().forward(*args, **kwargs)
            return 2 * out, weights

    assert openable(nn.MultiheadAttention(8, 2))
    assert not openable(Loud(8, 2))
    assert not openable(nn.MultiheadAttention(8, 2, add_bias_kv=True))
