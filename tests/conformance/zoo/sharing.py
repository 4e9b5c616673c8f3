"""Tensors that are shared, frozen, masked, parametrised or not used at all."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

from tests.conformance.registry import Buffer, Net, both, case, normal, param, tokens


def two(function: Any, **parts: Any) -> nn.Module:
    """A net of two layers a and b of twelve channels before a head."""
    layers = {"a": nn.Linear(12, 12), "b": nn.Linear(12, 12), "head": nn.Linear(12, 4)}
    return Net(function, **{**layers, **parts})


def plain(s: Any, x: Tensor) -> Tensor:
    return s.head(torch.tanh(s.b(torch.tanh(s.a(x)))))


def through_embedding(s: Any, input_ids: Tensor) -> Tensor:
    return s.head(torch.tanh(s.mix(s.embed(input_ids))))


def small_language() -> Any:
    parts = {"embed": nn.Embedding(20, 16), "mix": nn.Linear(16, 16), "head": nn.Linear(16, 20)}
    return Net(through_embedding, **parts)


IDS = both(input_ids=tokens(5))


@case("tie by attribute", "sharing")
def by_attribute() -> Any:
    net = small_language()
    net.head.weight = net.embed.weight
    return net, IDS


@case("tie by storage", "sharing")
def by_storage() -> Any:
    net = small_language()
    net.head.weight.data = net.embed.weight.data
    return net, IDS


@case("tie as a transposed view", "sharing", every="share memory in different shapes or orders")
def transposed() -> Any:
    net = two(plain)
    net.b.weight.data = net.a.weight.data.t()
    return net, normal(12)


@case("tie of a part of a parameter", "sharing", every="share memory in different shapes or orders")
def part() -> Any:
    net = two(plain)
    net.head.weight.data = net.a.weight.data[:4]
    return net, normal(12)


@case("two halves of one storage", "sharing")
def halves() -> Any:
    net, whole = two(plain), 0.3 * torch.randn(24, 12)
    net.a.weight.data, net.b.weight.data = whole[:12], whole[12:]
    return net, normal(12)


@case("tie by calling one layer twice", "sharing")
def twice() -> Any:
    return two(lambda s, x: s.head(torch.tanh(s.a(torch.tanh(s.b(torch.tanh(s.a(x)))))))), normal(12)


@case("one module under two names", "sharing")
def two_names() -> Any:
    net = Net(plain, a=nn.Linear(20, 20), head=nn.Linear(20, 4))
    net.b = net.a
    return net, normal(20)


@case("tie of a transposed use", "sharing")
def transposed_use() -> Any:
    net = Net(
        lambda s, x: s.out(F.linear(torch.tanh(s.a(x)), s.a.weight.t())), a=nn.Linear(12, 20), out=nn.Linear(12, 4)
    )
    return net, normal(12)


@case("tied biases and norms", "sharing")
def tied_vectors() -> Any:
    net = two(
        lambda s, x: s.head(s.m(torch.tanh(s.b(s.n(torch.tanh(s.a(x))))))), n=nn.LayerNorm(12), m=nn.LayerNorm(12)
    )
    nn.init.normal_(net.n.weight, 1, 0.2)
    net.b.bias, net.m.weight, net.m.bias = net.a.bias, net.n.weight, net.n.bias
    return net, normal(12)


@case("tied buffers", "sharing")
def tied_buffers() -> Any:
    noise = torch.randn(12)
    net = two(lambda s, x: plain(s, x + s.first) + s.second[:4], first=Buffer(noise), second=Buffer(noise))
    return net, normal(12)


@case("buffer that is a parameter's memory", "sharing", every="share memory as parameter and buffer")
def buffer_of_parameter() -> Any:
    net = two(lambda s, x: plain(s, x) + (x @ s.copy.t())[:, :4])
    net.register_buffer("copy", net.a.weight.data)
    return net, normal(12)


@case("u-net whose way up is tied to its way down", "sharing")
def tied_unet() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        down = F.relu(s.down(x))
        up = F.conv_transpose2d(F.relu(s.middle(down)), s.down.weight, s.bias, padding=1)
        return s.head((up + x).flatten(1))

    parts = {"down": nn.Conv2d(2, 8, 3, padding=1), "middle": nn.Conv2d(8, 8, 1), "bias": param(2)}
    return Net(forward, **parts, head=nn.Linear(50, 4)), normal(2, 5, 5)


@case("u-net with one block at two scales", "sharing")
def shared_unet() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        high = F.relu(s.block(s.stem(x)))
        low = F.interpolate(F.relu(s.block(F.avg_pool2d(high, 2))), scale_factor=2)
        return s.head(torch.cat([high, low], 1)).mean((2, 3))

    parts = {"stem": nn.Conv2d(1, 6, 1), "block": nn.Conv2d(6, 6, 3, padding=1), "head": nn.Conv2d(12, 4, 1)}
    return Net(forward, **parts), normal(1, 6, 6)


@case("frozen layers", "sharing")
def frozen() -> Any:
    net = two(plain)
    net.a.requires_grad_(False)
    return net, normal(12)


@case("everything frozen", "sharing")
def all_frozen() -> Any:
    return two(plain).requires_grad_(False), normal(12)


@case("frozen part under no_grad", "sharing")
def no_grad() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = torch.tanh(s.a(x))
        return s.head(torch.tanh(s.b(x)))

    return two(forward), normal(12)


@case("layers that are never called", "sharing")
def never() -> Any:
    return two(plain, spare=nn.Linear(9, 7), idle=nn.Conv2d(2, 3, 3), unused=param(5)), normal(12)


@case("layer that is called in training alone", "sharing")
def training_only() -> Any:
    return two(
        lambda s, x: plain(s, x) if not s.training else plain(s, s.extra(x)), extra=nn.Linear(12, 12)
    ).eval(), normal(12)


@case("model in training mode with dropout", "sharing")
def training() -> Any:
    return two(lambda s, x: plain(s, s.drop(x)), drop=nn.Dropout(0.5)).train(), normal(12)


@case("weight norm by hooks", "sharing")
def weight_norm() -> Any:
    net = two(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(net.a)
    return net, normal(12)


@case("weight norm as a parametrisation", "sharing")
def parametrized_norm() -> Any:
    net = two(plain)
    parametrizations.weight_norm(net.a)
    return net, normal(12)


@case("spectral norm by hooks", "sharing")
def spectral_norm() -> Any:
    net = two(plain)
    nn.utils.spectral_norm(net.a)
    return net.eval(), normal(12)


@case("spectral norm as a parametrisation", "sharing")
def parametrized_spectral() -> Any:
    net = two(plain)
    parametrizations.spectral_norm(net.a)
    return net.eval(), normal(12)


@case("orthogonal parametrisation", "sharing")
def orthogonal() -> Any:
    net = two(plain)
    parametrizations.orthogonal(net.a, orthogonal_map="cayley")
    return net, normal(12)


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).t()


@case("parametrisation of one's own", "sharing")
def symmetric() -> Any:
    net = two(plain)
    parametrize.register_parametrization(net.a, "weight", Symmetric())
    return net, normal(12)


@case("pruning masks", "sharing")
def pruned() -> Any:
    net = two(plain)
    prune.l1_unstructured(net.a, "weight", 0.5)
    return net, normal(12)


@case("weights that are mostly zero", "sharing")
def zeros() -> Any:
    net = two(plain)
    prune.l1_unstructured(net.a, "weight", 0.8)
    prune.remove(net.a, "weight")
    return net, normal(12)


@case("mask of large negative numbers", "sharing")
def mask() -> Any:
    hidden = torch.full((12, 12), torch.finfo(torch.float32).min).triu(1)
    return two(lambda s, x: plain(s, x + torch.softmax(s.mask, 1) @ s.a.bias), mask=Buffer(hidden)), normal(12)


@case("frozen mask parameter of large negative numbers", "sharing")
def mask_parameter() -> Any:
    hidden = nn.Parameter(torch.full((12, 12), torch.finfo(torch.float32).min).triu(1), requires_grad=False)
    return two(lambda s, x: plain(s, x + torch.softmax(s.mask, 1) @ s.a.bias), mask=hidden), normal(12)


@case("weight standardisation in a subclass", "sharing")
def standardised() -> Any:
    return nn.Sequential(Standardised(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)), normal(2, 5, 5)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


class Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 8 * F.linear(F.normalize(x), F.normalize(self.weight), self.bias)


@case("cosine layer in a subclass", "sharing", decompose="no layer can be decomposed")
def cosine() -> Any:
    return nn.Sequential(Cosine(12, 20), nn.ReLU(), Cosine(20, 4)), normal(12)
