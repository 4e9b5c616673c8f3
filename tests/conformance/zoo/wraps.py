"""Models that are wrapped, compiled, scripted, hooked, lazy or without memory, and state that is no tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.conformance.registry import Net, case, normal


def layers(**parts: Any) -> dict[str, Any]:
    return {"a": nn.Linear(12, 16), "b": nn.Linear(16, 16), "head": nn.Linear(16, 4), **parts}


def plain(s: Any, x: Tensor) -> Tensor:
    return s.head(torch.tanh(s.b(torch.tanh(s.a(x)))))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 4)).eval()


@case("data parallel", "wraps")
def parallel() -> Any:
    return nn.DataParallel(mlp()), normal(12)


@case("averaged model", "wraps")
def averaged() -> Any:
    return torch.optim.swa_utils.AveragedModel(mlp()), normal(12)


@case("compiled model", "wraps")
def compiled() -> Any:
    return torch.compile(mlp(), backend="eager"), normal(12)


@case("compiled in place", "wraps")
def compiled_in_place() -> Any:
    net = mlp()
    net.compile(backend="eager")
    return net, normal(12)


@case("scripted model", "wraps", every="is scripted or traced")
def scripted() -> Any:
    return torch.jit.script(mlp()), normal(12)


@case("traced model", "wraps", every="is scripted or traced")
def traced() -> Any:
    return torch.jit.trace(mlp(), torch.randn(2, 12)), normal(12)


@case("scripted part of a model", "wraps", every="is scripted or traced")
def scripted_part() -> Any:
    return nn.Sequential(torch.jit.script(nn.Sequential(nn.Linear(12, 16), nn.Tanh())), nn.Linear(16, 4)), normal(12)


@case("traced by fx", "wraps")
def fx() -> Any:
    return torch.fx.symbolic_trace(mlp()), normal(12)


@case("model with a hook that scales", "wraps")
def scaling_hook() -> Any:
    net = Net(plain, **layers())
    net.b.register_forward_hook(lambda layer, args, result: 2 * result)
    return net, normal(12)


@case("model with a hook before a layer", "wraps")
def pre_hook() -> Any:
    net = Net(plain, **layers())
    net.b.register_forward_pre_hook(lambda layer, args: (args[0] * 3,))
    return net, normal(12)


class Tapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.seen: Tensor | None = None
        self.b.register_forward_hook(self.keep)

    def keep(self, layer: nn.Module, args: Any, result: Tensor) -> None:
        self.seen = result

    def forward(self, x: Tensor) -> Tensor:
        self.b(torch.tanh(self.a(x)))
        assert self.seen is not None
        return self.head(torch.tanh(self.seen))


@case("features tapped by a bound method", "wraps")
def tapped() -> Any:
    return Tapped(), normal(12)


@case("hook on the whole model", "wraps")
def whole_hook() -> Any:
    net = Net(plain, **layers())
    net.register_forward_hook(lambda layer, args, result: result * 1.5)
    return net, normal(12)


@case("forward replaced on the object", "wraps", every="of this very model")
def patched() -> Any:
    net = Net(plain, **layers())
    net.b.forward = lambda x: torch.nn.functional.linear(x, net.b.weight * 2, net.b.bias)
    return net, normal(12)


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x)) / self.b.in_features**0.5
        return self.head(torch.tanh(self.b(x.to(self.b.weight.dtype))) * self.b.weight.shape[0] / 4)


@case("forward that reads its layers' attributes", "wraps")
def reads() -> Any:
    return Reads(), normal(12)


@case("lazy layers that were called", "wraps")
def lazy() -> Any:
    net = nn.Sequential(nn.LazyLinear(24), nn.Tanh(), nn.LazyLinear(4))
    net(torch.randn(2, 12))
    return net, normal(12)


class State(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"version": 3}

    def set_extra_state(self, state: Any) -> None:
        self.version = state


class TensorState(nn.Linear):
    def get_extra_state(self) -> Any:
        return torch.tensor([3, 1, 4])

    def set_extra_state(self, state: Any) -> None:
        self.version = state


@case("extra state that is a dict", "wraps", every="of extra state too", file="expected tensors by name")
def extra_state() -> Any:
    return nn.Sequential(State(12, 24), nn.Tanh(), nn.Linear(24, 4)), normal(12)


@case("extra state that is a tensor", "wraps")
def tensor_state() -> Any:
    return nn.Sequential(TensorState(12, 24), nn.Tanh(), nn.Linear(24, 4)), normal(12)


@case("hooks that rename the state", "wraps", every="expected the same names")
def renamed() -> Any:
    def rename(module: nn.Module, state: Any, prefix: str, metadata: Any) -> None:
        state[prefix + "kernel"] = state.pop(prefix + "weight")

    def back(state: Any, prefix: str, *rest: Any) -> None:
        state[prefix + "weight"] = state.pop(prefix + "kernel")

    net = nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 4))
    net[0]._register_state_dict_hook(rename)
    net[0]._register_load_state_dict_pre_hook(back)
    return net, normal(12)


@case("subclass of parameter", "wraps")
def subclass() -> Any:
    class Own(nn.Parameter):
        pass

    net = Net(plain, **layers())
    net.b.weight = Own(net.b.weight.detach())
    return net, normal(12)


@case("tensors kept in attributes and lists", "wraps")
def attributes() -> Any:
    net = Net(lambda s, x: s.head(torch.tanh(s.b(torch.tanh(s.a(x) + s.shift * s.more[0])))), **layers())
    net.shift, net.more = torch.full((16,), 0.1), [torch.full((1,), 0.5)]
    return net, normal(12)


@case("locks and generators in attributes", "wraps", every="cannot be copied")
def locked() -> Any:
    import threading

    net = Net(plain, **layers())
    net.lock = threading.Lock()
    return net, normal(12)
