from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from noworse.survey.capture import COLUMNS
from noworse.survey.moments import blocks, input_moments, widest
from tests.tiny import Attention


def output_energy(layer: nn.Module, change: Tensor, inputs: Tensor) -> float:
    """Mean over places of Σ over outputs of (δ · input)², by running the layer with δ in place of its weights."""
    with torch.no_grad():
        layer.weight.copy_(change)
        out = layer(inputs)
    places = out.numel() / change.shape[0]
    return float(out.double().square().sum() / places)


LAYERS = {
    "linear": (lambda: nn.Linear(6, 4, bias=False), (5, 3, 6)),
    "plain": (lambda: nn.Conv2d(3, 4, 3, bias=False), (2, 3, 8, 9)),
    "strided": (lambda: nn.Conv2d(4, 6, (3, 2), 2, (1, 0), bias=False), (2, 4, 9, 8)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, padding=2, dilation=2, bias=False), (2, 2, 8, 8)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), (2, 4, 6, 6)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), (2, 4, 6, 6)),
    "same": (lambda: nn.Conv2d(2, 3, 3, padding="same", bias=False), (2, 2, 5, 5)),
    "reflect": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect", bias=False), (2, 2, 5, 5)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_moments_give_the_output_error_of_any_change_of_weights(kind: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer, inputs = make(), torch.randn(shape)
    moments = input_moments(layer, {"weight": layer.weight}, [partial(layer, inputs)])["weight"]
    change = torch.randn_like(layer.weight)
    rows = change.double().reshape(len(moments), -1, moments.shape[1])  # (G, O/G, I)
    expected = float((rows @ moments.double() * rows).sum())
    assert output_energy(layer, change, inputs) == pytest.approx(expected, rel=1e-5)


def test_a_layer_used_twice_is_measured_over_both_uses_and_an_unused_one_left_out() -> None:
    layer, idle = nn.Linear(3, 3), nn.Linear(3, 3)
    module = nn.ModuleList([layer, idle])
    a, b = torch.randn(4, 3), torch.randn(12, 3)
    found = input_moments(module, {"a": layer.weight, "b": idle.weight}, [partial(layer, a), partial(layer, b)])
    both = torch.cat([a, b]).double()
    assert list(found) == ["a"]
    torch.testing.assert_close(found["a"][0].double(), both.T @ both / 16, atol=1e-6, rtol=1e-6)
    assert not layer._forward_pre_hooks


def steps(layer: nn.RNNBase, end: str, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs (T, H) of one layer for a sequence (T, I), and the rows that its weights are multiplied with, by name."""

    def get(name: str) -> Tensor:
        return getattr(layer, f"{name}_{end}").detach()

    hidden, state = torch.zeros(get("weight_hh").shape[1]).double(), torch.zeros(layer.hidden_size).double()
    before, projected, outputs = [], [], []
    for x in inputs:
        before.append(hidden)
        a = get("weight_ih") @ x + get("bias_ih")
        b = get("weight_hh") @ hidden + get("bias_hh")
        if layer.mode == "GRU":
            (r, z, n), (hr, hz, hn) = a.chunk(3), b.chunk(3)
            z, n = torch.sigmoid(z + hz), torch.tanh(n + torch.sigmoid(r + hr) * hn)
            hidden = (1 - z) * n + z * hidden
        elif layer.mode == "LSTM":
            i, f, g, o = (a + b).chunk(4)
            state = torch.sigmoid(f) * state + torch.sigmoid(i) * torch.tanh(g)
            projected.append(torch.sigmoid(o) * torch.tanh(state))
            hidden = get("weight_hr") @ projected[-1]
        else:
            hidden = torch.tanh(a + b)
        outputs.append(hidden)
    fed = {"weight_ih": inputs, "weight_hh": torch.stack(before)}
    return torch.stack(outputs), fed | ({"weight_hr": torch.stack(projected)} if projected else {})


@pytest.mark.parametrize("kind", [nn.GRU, partial(nn.LSTM, proj_size=2), nn.RNN])
def test_a_recurrent_layer_has_moments_of_its_inputs_and_hidden_states_at_all_steps(
    kind: Callable[..., nn.RNNBase],
) -> None:
    torch.manual_seed(0)
    layer = kind(3, 4, num_layers=2, bidirectional=True, dropout=0.5).double().eval()
    sequences = [torch.randn(n, 3).double() for n in (5, 2, 7)]
    expected: dict[str, list[Tensor]] = {}
    for sequence in sequences:
        inputs = sequence
        for number in range(2):
            both = []
            for end, flip in ((f"l{number}", False), (f"l{number}_reverse", True)):
                outputs, fed = steps(layer, end, inputs.flip(0) if flip else inputs)
                both.append(outputs.flip(0) if flip else outputs)
                for name, rows in fed.items():
                    expected.setdefault(f"{name}_{end}", []).append(rows)
            inputs = torch.cat(both, 1)
    module = nn.ModuleDict({"rnn": layer})
    weights = {name: p for name, p in module.named_parameters() if "weight" in name}
    found = input_moments(module, weights, [partial(layer, pack_sequence(sequences, enforce_sorted=False))])
    assert not found.missed
    assert found.keys() == {f"rnn.{name}" for name in expected} == weights.keys()
    for name, parts in expected.items():
        rows = torch.cat(parts)
        assert len(rows) == 14
        torch.testing.assert_close(found[f"rnn.{name}"][0], rows.T @ rows / 14, rtol=1e-10, atol=1e-12)


def test_a_cell_has_moments_of_its_input_and_of_its_hidden_state() -> None:
    torch.manual_seed(0)
    cell, x, h = nn.GRUCell(3, 4), torch.randn(6, 3), torch.randn(6, 4)
    weights = {"ih": cell.weight_ih, "hh": cell.weight_hh}
    found = input_moments(cell, weights, [partial(cell, x, h), partial(cell, x)])  # no hidden state is one of zeros
    torch.testing.assert_close(found["ih"][0], x.T @ x / 6)
    torch.testing.assert_close(found["hh"][0], h.T @ h / 12)


@pytest.mark.parametrize("widths", [(8, 8, 8), (8, 6, 10)])
@pytest.mark.parametrize("alone", [False, True])
def test_attention_has_the_moments_of_four_linear_layers(widths: tuple[int, ...], alone: bool) -> None:
    torch.manual_seed(0)
    source = nn.MultiheadAttention(8, 2, kdim=widths[1], vdim=widths[2], batch_first=True).eval()
    inputs = [torch.randn(3, length, width) for length, width in zip((5, 7, 7), widths, strict=True)]
    module, plain = nn.ModuleDict({"attend": source}), Attention(source).double()
    weights = {name: p for name, p in module.named_parameters() if p.dim() > 1 and not (alone and "out" in name)}
    found = input_moments(module, weights, [partial(source, *inputs)])
    doubles = [x.double() for x in inputs]
    linear = {name: p for name, p in plain.named_parameters() if p.dim() > 1}
    expected = input_moments(plain, linear, [partial(plain, *doubles)])
    if widths[1] == 8:
        whole = torch.cat([expected[f"{name}.weight"] for name in "qkv"])
        names = {"attend.in_proj_weight": whole, "attend.out_proj.weight": expected["out.weight"]}
    else:
        names = {f"attend.{name}_proj_weight": expected[f"{name}.weight"] for name in "qkv"}
        names["attend.out_proj.weight"] = expected["out.weight"]
    assert not found.missed
    assert found.keys() == weights.keys() == names.keys() - ({"attend.out_proj.weight"} if alone else set())
    for name, moments in found.items():
        torch.testing.assert_close(moments.double(), names[name], rtol=1e-5, atol=1e-6)
    assert "forward" not in vars(source)
    assert source._qkv_same_embed_dim == (widths[1] == 8)


def test_attention_to_itself_has_one_matrix_of_moments_also_where_layers_would_take_their_fast_path() -> None:
    torch.manual_seed(0)
    layer, x = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval(), torch.randn(6, 5, 8)
    found = input_moments(layer, {"w": layer.self_attn.in_proj_weight}, [partial(layer, x)])
    rows = x.double().flatten(0, 1)
    assert found["w"].shape == (1, 8, 8)
    torch.testing.assert_close(found["w"][0].double(), rows.T @ rows / 30, rtol=1e-5, atol=1e-6)


def test_attention_of_other_classes_is_left_out() -> None:
    layer = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)
    weights = {"in": layer.in_proj_weight, "out": layer.out_proj.weight}
    found = input_moments(layer, weights, [partial(layer, *[torch.randn(3, 5, 8)] * 3)])
    assert not found
    assert list(found.missed) == ["out_proj"]


def test_hooks_go_even_where_the_model_fails() -> None:
    layer = nn.Linear(3, 3)
    with pytest.raises(RuntimeError):
        input_moments(layer, {"w": layer.weight}, [partial(layer, torch.randn(4, 2))])
    assert not layer._forward_pre_hooks


def test_large_feature_maps_are_not_unfolded_whole() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    seen = input_moments(layer, {"w": layer.weight}, [partial(layer, torch.ones(64, 1, 64, 64))])["w"]
    assert 2 * COLUMNS < 64 * 64 * 64  # so that the bound matters
    assert float(seen.max()) == pytest.approx(1.0)  # a mean, whatever the number of places


def test_where_memory_is_short_moments_are_those_of_blocks_of_channels() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(48, 8, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(8 * 16, 4))
    inputs, weights = torch.randn(6, 48, 4, 4), {"conv": module[0].weight, "linear": module[2].weight}
    bound = 4.0 * (4 * 108**2 + 2 * 64**2)
    whole, cut = (input_moments(module, weights, [partial(module, inputs)], limit) for limit in (float("inf"), bound))
    assert whole["conv"].shape == (2, 216, 216)
    assert cut["conv"].shape == (4, 108, 108)
    assert cut["linear"].shape == (2, 64, 64)
    for block in range(4):
        columns = slice(108 * (block % 2), 108 * (block % 2) + 108)
        torch.testing.assert_close(cut["conv"][block], whole["conv"][block // 2][columns, columns])


def test_blocks_divide_the_channels() -> None:
    assert blocks(nn.Conv2d(512, 4, 3), 1152) == 4
    assert blocks(nn.Linear(3072, 4), 1200) == 3
    assert blocks(nn.Conv2d(7, 4, 5), 100) == 7
    assert widest([nn.Linear(100, 3)], 0) == 50
    assert widest([], 0) == 1


def test_it_ends_when_every_layer_has_seen_enough() -> None:
    layer, calls = nn.Linear(4, 2), []

    def run() -> None:
        calls.append(layer(torch.randn(8, 4)))

    for least, expected in ((0, 3), (6, 6), (99, 12)):  # 5 inputs for each of 4 weights are 20: three batches of 8
        calls.clear()
        input_moments(layer, {"w": layer.weight}, [run] * 12, least=least)
        assert len(calls) == expected
