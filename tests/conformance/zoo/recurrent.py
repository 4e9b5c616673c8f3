"""Recurrent layers and loops over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.conformance.registry import Net, both, case, normal, tokens

SEQUENCE = normal(6, 8)


def last(layer: nn.Module, width: int) -> nn.Module:
    """A recurrent layer, and a head on what it returns of the last time."""
    return Net(lambda s, x: s.head(s.rnn(x)[0][:, -1]), rnn=layer, head=nn.Linear(width, 4)).eval()


@case("rnn", "recurrent")
def rnn() -> Any:
    return last(nn.RNN(8, 12, batch_first=True, nonlinearity="relu"), 12), SEQUENCE


@case("gru", "recurrent")
def gru() -> Any:
    return last(nn.GRU(8, 12, batch_first=True), 12), SEQUENCE


@case("gru of two layers, bidirectional, without bias", "recurrent")
def deep_gru() -> Any:
    return last(nn.GRU(8, 8, 2, batch_first=True, bidirectional=True, bias=False), 16), SEQUENCE


@case("lstm", "recurrent")
def lstm() -> Any:
    return last(nn.LSTM(8, 12, batch_first=True), 12), SEQUENCE


@case("lstm with projections", "recurrent")
def projected() -> Any:
    return last(nn.LSTM(8, 12, batch_first=True, proj_size=6), 6), SEQUENCE


@case("lstm with projections, bidirectional, with dropout", "recurrent")
def deep_projected() -> Any:
    return last(nn.LSTM(8, 8, 2, batch_first=True, proj_size=6, bidirectional=True, dropout=0.5), 12), SEQUENCE


@case("lstm whose time comes first", "recurrent")
def time_first() -> Any:
    net = Net(lambda s, x: s.head(s.rnn(x.transpose(0, 1))[0][-1]), rnn=nn.LSTM(8, 12), head=nn.Linear(12, 4))
    return net, SEQUENCE


@case("lstm and gru that start at learned states", "recurrent")
def learned_state() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        start = s.h.expand(1, len(x), 12).contiguous(), s.c.expand(1, len(x), 12).contiguous()
        y, (h, _) = s.lstm(x, start)
        return s.head(s.gru(y, h)[1][0])

    parts = {"lstm": nn.LSTM(8, 12, batch_first=True), "gru": nn.GRU(12, 12, batch_first=True)}
    states = {name: nn.Parameter(torch.randn(1, 1, 12)) for name in "hc"}
    return Net(forward, **parts, **states, head=nn.Linear(12, 4)), SEQUENCE


@case("cells called in a loop", "recurrent")
def cells() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        a, b, c, d = (torch.zeros(len(x), 8).to(x) for _ in range(4))
        for t in range(x.shape[1]):
            a, b = s.lstm(x[:, t], (a, b))
            c = s.gru(a, c)
            d = s.rnn(c, d)
        return s.head(d)

    parts = {"lstm": nn.LSTMCell(8, 8), "gru": nn.GRUCell(8, 8), "rnn": nn.RNNCell(8, 8)}
    return Net(forward, **parts, head=nn.Linear(8, 4)), SEQUENCE


@case("gru without a batch dimension", "recurrent")
def unbatched() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        return torch.stack([s.head(s.rnn(one)[0][-1]) for one in x])

    return Net(forward, rnn=nn.GRU(8, 12), head=nn.Linear(12, 4)), normal(3, 8)


@case("packed sequences", "recurrent")
def packed() -> Any:
    def forward(s: Any, input_ids: Tensor, lengths: Tensor) -> Tensor:
        x = pack_padded_sequence(s.embed(input_ids), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(s.rnn(x)[0], batch_first=True, total_length=input_ids.shape[1])
        return s.head(hidden.sum(1) / lengths[:, None])

    parts = {"embed": nn.Embedding(20, 8), "rnn": nn.GRU(8, 12, batch_first=True), "head": nn.Linear(12, 4)}
    return Net(forward, **parts), both(input_ids=tokens(6), lengths=lambda count: torch.randint(1, 7, (count,)))


@case("sequence to sequence with attention, gru", "recurrent")
def translate() -> Any:
    def forward(s: Any, input_ids: Tensor, decoder_input_ids: Tensor) -> Tensor:
        memory, state = s.encoder(s.embed(input_ids))
        x, _ = s.decoder(s.embed(decoder_input_ids), state)
        weights = torch.softmax(x @ s.key(memory).transpose(1, 2), -1)
        return s.head(torch.cat([x, weights @ memory], -1))

    parts = {"embed": nn.Embedding(20, 8), "encoder": nn.GRU(8, 10, batch_first=True)}
    parts |= {"decoder": nn.GRU(8, 10, batch_first=True), "key": nn.Linear(10, 10), "head": nn.Linear(20, 20)}
    return Net(forward, **parts), both(input_ids=tokens(5), decoder_input_ids=tokens(4))


@case("convolutions before an lstm", "recurrent")
def hybrid() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        return s.head(s.rnn(torch.relu(s.norm(s.conv(x))).transpose(1, 2))[0].mean(1))

    parts = {"conv": nn.Conv1d(4, 8, 3), "norm": nn.BatchNorm1d(8), "rnn": nn.LSTM(8, 10, batch_first=True)}
    return Net(forward, **parts, head=nn.Linear(10, 4)).eval(), normal(4, 10)
