"""Recurrent layers as linear layers, which hooks can see and factors can replace, in the place of one fused call."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

LAYERS = (nn.GRU, nn.LSTM, nn.RNN)
CELLS = (nn.GRUCell, nn.LSTMCell, nn.RNNCell)
Linear = Callable[[Tensor], Tensor]
States = Sequence[Tensor]  # hidden states (B, H), and for an LSTM the cell's


class Recurrent(nn.Module):
    """The same as ``nn.GRU``, ``nn.LSTM`` or ``nn.RNN``, or a cell of theirs, step by step.

    Takes and returns what the source does. Each weight of the source, such as ``weight_ih_l0``, is that of a linear
    layer, ``ih_l0``: parameters are shared. Those of inputs are called once with all steps, ``hh`` and ``hr`` at each.
    """

    def __init__(self, source: nn.RNNBase | nn.RNNCellBase) -> None:
        super().__init__()
        for name in _weights(source):
            weight: Any = getattr(source, name)
            layer: Any = nn.Linear(weight.shape[1], weight.shape[0], False, device="meta")
            layer.weight, layer.bias = weight, getattr(source, name.replace("weight", "bias"), None)
            setattr(self, name.removeprefix("weight_"), layer)
        self.mode = getattr(source, "mode", type(source).__name__.upper().removesuffix("CELL"))
        self.cell = isinstance(source, nn.RNNCellBase)
        self.hidden_size = source.hidden_size
        self.nonlinearity: str = getattr(source, "nonlinearity", "tanh")
        if isinstance(source, nn.RNNBase):
            self.num_layers, self.directions = source.num_layers, 1 + source.bidirectional
            self.batch_first, self.dropout = source.batch_first, source.dropout
            self.proj_size = source.proj_size
        self.train(source.training)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Return what the source's ``forward`` does."""
        if self.cell:
            return self._one_step(input, hx)
        if isinstance(input, PackedSequence):
            order = input.sorted_indices
            states = self._states(hx, input.data, int(input.batch_sizes[0]))
            states = states if order is None else [state[:, order] for state in states]
            data, states = self._stack(input.data, input.batch_sizes.tolist(), states)
            order = input.unsorted_indices
            states = states if order is None else [state[:, order] for state in states]
            return input._replace(data=data), self._given(states)
        alone = input.dim() == 2
        steps = input.unsqueeze(1) if alone else input.transpose(0, 1) if self.batch_first else input  # (T, B, I)
        if alone and hx is not None:
            hx = [state.unsqueeze(1) for state in (hx if isinstance(hx, tuple) else (hx,))]
        length, batch = steps.shape[:2]
        data, states = self._stack(steps.flatten(0, 1), [batch] * length, self._states(hx, steps, batch))
        out = data.view(length, batch, -1)
        if alone:
            return out.squeeze(1), self._given([state.squeeze(1) for state in states])
        return out.transpose(0, 1) if self.batch_first else out, self._given(states)

    def flatten_parameters(self) -> None:
        """Do nothing: callers ask this of torch's layers."""

    def __getattr__(self, name: str) -> Any:
        """Return a weight or bias by its name in the source too."""
        kind, _, end = name.partition("_")
        if kind in ("weight", "bias") and end in self._modules:
            return getattr(self._modules[end], kind)
        return super().__getattr__(name)

    def _states(self, hx: Any, like: Tensor, batch: int) -> list[Tensor]:
        """The states to begin with, (L·D, B, H) each."""
        if hx is not None:
            return list(hx) if isinstance(hx, (tuple, list)) else [hx]
        widths = [self.proj_size or self.hidden_size, self.hidden_size][: 1 + (self.mode == "LSTM")]
        return [like.new_zeros(self.num_layers * self.directions, batch, width) for width in widths]

    def _given(self, states: States) -> Any:
        return tuple(states) if self.mode == "LSTM" else states[0]

    def _stack(self, data: Tensor, sizes: list[int], states: States) -> tuple[Tensor, list[Tensor]]:
        """Outputs (N, D·H) of all layers for steps of ``sizes`` rows, one after the other, and the last states."""
        last: list[States] = []
        for layer in range(self.num_layers):
            if layer:
                data = F.dropout(data, self.dropout, self.training)
            outputs = []
            for direction, end in enumerate(("", "_reverse")[: self.directions]):
                begin = [state[layer * self.directions + direction] for state in states]
                output, end_states = self._run(f"_l{layer}{end}", data, sizes, begin, bool(direction))
                outputs.append(output)
                last.append(end_states)
            data = torch.cat(outputs, 1)
        return data, [torch.stack(each) for each in zip(*last, strict=True)]

    def _run(
        self, end: str, data: Tensor, sizes: list[int], states: States, backward: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Outputs (N, H) of one layer in one direction, and its last states; shorter sequences are in later rows."""
        gates = self.get_submodule(f"ih{end}")(data).split(sizes)
        outputs: list[Any] = [None] * len(sizes)
        places = range(len(sizes))
        for t in reversed(places) if backward else places:
            new = self._step(end, gates[t], [state[: sizes[t]] for state in states])
            states = [torch.cat([now, before[sizes[t] :]]) for now, before in zip(new, states, strict=True)]
            outputs[t] = new[0]
        return torch.cat(outputs), list(states)

    def _step(self, end: str, gates: Tensor, states: States) -> list[Tensor]:
        """The states after one step, from what inputs add to the gates."""
        hidden, more = states[0], self.get_submodule(f"hh{end}")(states[0])
        if self.mode == "GRU":
            (r, z, n), (hr, hz, hn) = gates.chunk(3, -1), more.chunk(3, -1)
            n = torch.tanh(n + torch.sigmoid(r + hr) * hn)
            return [n + torch.sigmoid(z + hz) * (hidden - n)]
        if self.mode != "LSTM":
            relu = self.mode == "RNN_RELU" or self.nonlinearity == "relu"
            return [(torch.relu if relu else torch.tanh)(gates + more)]
        i, f, g, o = (gates + more).chunk(4, -1)
        state = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(state)
        projection = getattr(self, f"hr{end}", None)
        return [hidden if projection is None else projection(hidden), state]

    def _one_step(self, inputs: Tensor, hx: Any) -> Any:
        """What a cell returns for inputs (B, I) or (I,)."""
        gates = self.get_submodule("ih")(inputs)
        zeros = gates.new_zeros(*inputs.shape[:-1], self.hidden_size)
        states = [zeros, zeros] if hx is None else list(hx) if isinstance(hx, tuple) else [hx]
        return self._given(self._step("", gates, states))


def _weights(layer: nn.Module) -> list[str]:
    names: Sequence[str] = getattr(layer, "_flat_weights_names", ("weight_ih", "weight_hh"))
    return [name for name in names if name.startswith("weight")]


def openable(layer: nn.Module) -> bool:
    """Return whether ``Recurrent`` can stand for a layer: one of torch's own, whose weights are its parameters."""
    own = type(layer) in (*LAYERS, *CELLS) and "forward" not in vars(layer)
    return own and all(name in layer._parameters for name in _weights(layer))


@contextmanager
def opened(module: nn.Module) -> Iterator[dict[str, nn.Module]]:
    """In the block, recurrent layers of ``module`` run as ``Recurrent``.

    Yield all modules by name, and with them the linear layers of recurrent ones, by the names of their weights.
    """
    modules = dict(module.named_modules())
    with ExitStack() as stack:
        for name, layer in list(modules.items()):
            if openable(layer):
                inside = Recurrent(layer)
                layer.forward = inside.forward
                stack.callback(delattr, layer, "forward")
                modules |= {f"{name}.weight_{end}".lstrip("."): each for end, each in inside.named_children()}
        yield modules
