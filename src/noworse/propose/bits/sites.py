"""Where a net can be quantised: weights of layers that hooks can see, and what calibration data feeds these layers."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from noworse.errors import BadInput
from noworse.model.recurrent import opened
from noworse.survey.capture import Call, capture, dense

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONVOLVED = (*CONVOLUTIONS, _BatchNorm)
LAYERS = (nn.Linear, *CONVOLUTIONS, nn.Embedding)
SUMS = ("add", "add_", "__add__", "__radd__", "__iadd__")
SAMPLE = 1 << 13  # values kept of one call of a layer,
KEPT = 1 << 17  # and of all its calls


@dataclass
class Values:
    """The least and the largest of some values, and a sample of them."""

    low: float = torch.inf
    high: float = -torch.inf
    parts: list[Tensor] = field(default_factory=list)

    def add(self, values: Tensor) -> None:
        """Add values of any shape."""
        flat = values.detach().float().flatten()
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        if sum(map(len, self.parts)) < KEPT:
            self.parts.append(flat[:: max(1, len(flat) // SAMPLE)].clone())

    @property
    def sample(self) -> Tensor:
        """Some of the values, (n,)."""
        return torch.cat(self.parts)


@dataclass(frozen=True)
class Site:
    """One weight, and the layers that use it and whose inputs may be rounded (several where it is tied).

    ``name`` is that of the first layer, of a weight of a recurrent layer its own; ``key`` is the weight's in the state.
    """

    name: str
    key: str
    layers: tuple[str, ...]
    weight: nn.Parameter


@dataclass(frozen=True)
class InputSurvey:
    """What a net offers: sites in the order of its layers, their inputs by layer, and what is left alone, and why.

    Runtimes compute a convolution in integers only where its output is rounded, too. Mostly that is so as the input
    of the next layer; not where it ends in a sum, as in residual blocks.
    """

    sites: list[Site]
    inputs: dict[str, Values]
    alone: dict[str, str]
    sums: dict[str, Values]  # outputs of convolutions, or of batch norms behind them, that are added to something


class _Sums(TorchFunctionMode):
    """Watches which outputs of convolutions are added to something as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh: list[tuple[Tensor, str]] = []  # outputs of this run, kept so that none is taken for another
        self.seen: dict[str, Values] = {}
        self.added: set[str] = set()

    def see(self, call: Call) -> None:
        """Note what a convolution, or a batch norm behind one, returned."""
        if isinstance(call.layer, CONVOLUTIONS) or any(call.input is convolved for convolved, _ in self.fresh):
            self.fresh.append((call.result, call.name))
            self.seen.setdefault(call.name, Values()).add(call.result)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in SUMS:
            self.added.update(name for output, name in self.fresh if any(output is given for given in args))
        return func(*args, **(kwargs or {}))


def survey_inputs(module: nn.Module, runs: Iterable[Callable[[], object]], kept: Collection[str] = ()) -> InputSurvey:
    """Return what a float32 module offers, seen while each of ``runs`` calls it; ``kept`` names tensors to leave alone.

    BadInput where nothing can be quantised, or where inputs of a layer are not finite.
    """
    users: dict[nn.Parameter, list[str]] = {}
    layers: dict[str, nn.Module] = {}
    inputs: dict[str, Values] = {}
    outputs = _Sums()
    own = dict(module.named_modules())

    def see(call: Call) -> None:
        given = call.input
        if call.name in own and isinstance(call.layer, LAYERS) and given.is_floating_point() and given.numel():
            values = dense(given)
            if not bool(torch.isfinite(values).all()):
                raise BadInput(f"inputs of layer {call.name!r} are not finite on calib: expected values with a range")
            inputs.setdefault(call.name, Values()).add(values)
        if isinstance(call.layer, CONVOLVED) and call.result.numel():
            outputs.see(call)

    with opened(module) as modules, torch.no_grad(), outputs:
        for name, layer in modules.items():
            weight = layer._parameters.get("weight") if isinstance(layer, LAYERS) else None
            if weight is not None and weight.numel():
                users.setdefault(weight, []).append(name)
                layers[name] = layer
            elif isinstance(layer, CONVOLVED):
                layers[name] = layer
        with capture(layers, see) as seen:
            for run in runs:
                run()
                outputs.fresh.clear()
    alone, sites = {}, []
    for weight, names in users.items():
        called = [name for name in names if seen.calls[name]]
        key = f"{names[0]}.weight" if names[0] in own else names[0]
        if key in kept:
            alone[key] = "it is kept"
        elif not called:
            alone[key] = seen.missed[names[0]]
        else:
            sites.append(Site(names[0], key, tuple(name for name in called if name in own), weight))
    others = [name for name, p in module.named_parameters() if p.dim() > 1 and p not in users]
    alone |= dict.fromkeys(others, "no layer that hooks can see uses it")
    if not sites:
        raise BadInput(f"no layer can be quantised: {alone or 'none is linear, convolutional or an embedding'}")
    sums = {name: values for name, values in outputs.seen.items() if name in outputs.added}
    return InputSurvey(sites, inputs, alone, sums)
