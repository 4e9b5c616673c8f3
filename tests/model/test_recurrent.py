from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

from noworse.model.recurrent import Recurrent, openable, opened

KINDS = {"GRU": nn.GRU, "LSTM": nn.LSTM, "tanh": nn.RNN, "relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k)}
CELLS = {
    "GRU": nn.GRUCell,
    "LSTM": nn.LSTMCell,
    "tanh": nn.RNNCell,
    "relu": lambda *a, **k: nn.RNNCell(*a, nonlinearity="relu", **k),
}
OPTIONS = [
    {"num_layers": n, "bidirectional": b, "bias": bias, "batch_first": first}
    for n, b, bias, first in itertools.product((1, 3), (False, True), (False, True), (False, True))
]


def same(found: object, expected: object) -> None:
    """Outputs and states, however nested, in double precision."""
    if isinstance(expected, PackedSequence):
        assert torch.equal(found.batch_sizes, expected.batch_sizes)
        found, expected = found.data, expected.data
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def given(layer: nn.RNNBase, batch: tuple[int, ...]) -> object:
    """States to begin with."""
    rows = layer.num_layers * (1 + layer.bidirectional)
    hidden = torch.randn(rows, *batch, layer.proj_size or layer.hidden_size).double()
    return (hidden, torch.randn(rows, *batch, layer.hidden_size).double()) if isinstance(layer, nn.LSTM) else hidden


@pytest.mark.parametrize("kind", [*KINDS, "projected"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_outputs_and_states_are_those_of_torch(kind, options):
    torch.manual_seed(0)
    options = options | ({"proj_size": 3} if kind == "projected" else {})
    layer = KINDS.get(kind, nn.LSTM)(4, 5, **options).double().eval()
    ours, sequences = Recurrent(layer), [torch.randn(n, 4).double() for n in (3, 6, 1, 6)]
    batch, alone = torch.randn(6, 2, 4).double(), sequences[1]
    batch = batch.transpose(0, 1) if layer.batch_first else batch
    unsorted, ordered = pack_sequence(sequences, enforce_sorted=False), pack_sequence([alone, *sequences[:1]])
    for inputs, size in ((batch, (2,)), (alone, ()), (unsorted, (4,)), (ordered, (2,))):
        states = given(layer, size)
        same(ours(inputs), layer(inputs))
        same(ours(inputs, states), layer(inputs, states))
        same(ours(input=inputs, hx=states), layer(inputs, states))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [False, True])
def test_cells_return_what_those_of_torch_do(kind, bias):
    torch.manual_seed(0)
    cell = CELLS[kind](4, 5, bias=bias).double()
    for size in ((3,), ()):
        inputs, hidden = torch.randn(*size, 4).double(), torch.randn(*size, 5).double()
        states = (hidden, torch.randn(*size, 5).double()) if kind == "LSTM" else hidden
        same(Recurrent(cell)(inputs), cell(inputs))
        same(Recurrent(cell)(inputs, states), cell(inputs, states))


def test_gradients_are_those_of_torch():
    torch.manual_seed(0)
    layer, weights = nn.LSTM(4, 5, 2, bidirectional=True, proj_size=3).double(), torch.randn(12, 6).double()
    packed = pack_padded_sequence(torch.randn(6, 3, 4).double(), [6, 4, 2])
    expected = torch.autograd.grad((layer(packed)[0].data * weights).sum(), list(layer.parameters()))
    same(torch.autograd.grad((Recurrent(layer)(packed)[0].data * weights).sum(), list(layer.parameters())), expected)


def test_dropout_between_layers_drops_in_training_alone():
    torch.manual_seed(0)
    layer, inputs = nn.GRU(4, 64, 2, dropout=0.5), torch.randn(9, 2, 4)
    dropped = []
    ours = Recurrent(layer)
    ours.ih_l1.register_forward_pre_hook(lambda module, args: dropped.append(float((args[0] == 0).double().mean())))
    ours(inputs)
    ours.eval()(inputs)
    assert dropped[0] == pytest.approx(0.5, abs=0.1)
    assert dropped[1] == 0


def test_layers_run_opened_in_the_block_alone_and_share_their_weights():
    module = nn.ModuleDict({"rnn": nn.LSTM(3, 4, proj_size=2), "cell": nn.GRUCell(3, 4)})
    called: list[object] = []
    with opened(module) as layers:
        weights = {name: p for name, p in module.named_parameters() if "weight" in name}
        assert list(layers) == ["", "rnn", "cell", *weights]
        assert all(layers[name].weight is weight for name, weight in weights.items())
        layers["rnn.weight_hr_l0"].register_forward_hook(lambda layer, args, result: called.append(layer))
        module["rnn"](torch.randn(5, 2, 3))
    assert len(called) == 5  # once for each step
    module["rnn"](torch.randn(5, 2, 3))
    assert len(called) == 5
    assert "forward" not in vars(module["rnn"])
    with opened(nn.GRU(2, 3)) as layers:
        assert list(layers) == ["", "weight_ih_l0", "weight_hh_l0"]


def test_layers_of_other_classes_or_with_other_weights_stay_closed():
    class Loud(nn.GRU):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    pruned = prune.l1_unstructured(nn.GRU(2, 3), "weight_hh_l0", 4)
    for layer in (Loud(2, 3), weight_norm(nn.GRU(2, 3), "weight_hh_l0"), pruned, nn.Linear(2, 2)):
        assert not openable(layer)
    assert openable(nn.GRU(2, 3))
