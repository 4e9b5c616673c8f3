"""Ways to call models and layers, what batches are, and what models return."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conformance.registry import Buffer, Net, both, case, normal, several, tokens

Pair = namedtuple("Pair", "left right")
Both = namedtuple("Both", "hidden logits")


def layers(**parts: Any) -> dict[str, Any]:
    return {"a": nn.Linear(12, 16), "b": nn.Linear(16, 16), "head": nn.Linear(16, 4), **parts}


def plain(s: Any, x: Tensor) -> Tensor:
    return s.head(torch.tanh(s.b(torch.tanh(s.a(x)))))


@case("layers called by keyword", "calls")
def by_keyword() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        return s.head(input=torch.tanh(s.b(input=torch.tanh(s.a(input=x)))))

    return Net(forward, **layers()), normal(12)


@case("convolutions called by keyword", "calls")
def conv_by_keyword() -> Any:
    net = Net(
        lambda s, x: s.head(F.relu(s.norm(input=s.conv(input=x))).flatten(1)),
        conv=nn.Conv2d(2, 8, 3), norm=nn.BatchNorm2d(8), head=nn.Linear(72, 4),
    )  # fmt: skip
    return net.eval(), normal(2, 5, 5)


@case("model called with a dict", "calls")
def with_dict() -> Any:
    return Net(lambda s, values, mask: plain(s, values * mask), **layers()), both(values=normal(12), mask=normal(12))


@case("labels under another key", "calls")
def other_label() -> Any:
    def forward(module: nn.Module, batch: Any) -> Tensor:
        return module(batch["values"])

    return Net(plain, **layers()), both(values=normal(12)), {"extras": {"forward": forward}}


@case("two positional inputs", "calls")
def two_inputs() -> Any:
    net = Net(lambda s, x, y: plain(s, torch.cat([x, y], 1)), **layers())
    return net, several(normal(8), normal(4)), {"extras": {"forward": lambda m, batch: m(batch[0], batch[1])}}


@case("named tuple batches", "calls")
def named() -> Any:
    inputs = normal(12)
    return Net(plain, **layers()), lambda count: (inputs(count),), {"extras": {"forward": lambda m, batch: m(batch[0])}}


@case("list batches", "calls")
def lists() -> Any:
    inputs = normal(12)
    return Net(plain, **layers()), lambda count: [inputs(count)]


@case("nested dict batches", "calls", every="expected a tensor")
def nested_dict() -> Any:
    inputs = normal(12)
    forward = {"forward": lambda m, batch: m(batch["data"]["x"])}
    return Net(plain, **layers()), lambda count: {"data": {"x": inputs(count)}}, {"extras": forward}


@case("nested tuple batches", "calls", every="expected a tensor")
def nested_tuple() -> Any:
    x, y = normal(8), normal(4)
    net = Net(lambda s, x, y: plain(s, torch.cat([x, y], 1)), **layers())
    forward = {"forward": lambda m, batch: m(*batch[0])}
    return net, lambda count: ((x(count), y(count)),), {"extras": forward}


@case("batches of different sizes", "calls")
def sizes() -> Any:
    return Net(plain, **layers()), normal(12), {"sizes": (16, 7, 1)}


@case("batches of one", "calls")
def ones() -> Any:
    return Net(plain, **layers()), normal(12), {"sizes": (1,) * 20}


@case("sequences of different lengths", "calls")
def lengths() -> Any:
    def ids(count: int) -> dict[str, Tensor]:
        length = int(torch.randint(3, 9, ()))
        return {"input_ids": torch.randint(1, 20, (count, length)), "attention_mask": torch.ones(count, length)}

    def forward(s: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = torch.tanh(s.mix(s.embed(input_ids))) * attention_mask[..., None]
        return s.head(x.sum(1) / attention_mask.sum(1, True))

    return Net(forward, embed=nn.Embedding(20, 16), mix=nn.Linear(16, 16), head=nn.Linear(16, 4)), ids


@case("padding mask", "calls")
def padding() -> Any:
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)

    def forward(s: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
        x = s.encoder(s.embed(input_ids), src_key_padding_mask=mask)
        return s.head((x * ~mask[..., None]).sum(1))

    parts = {"embed": nn.Embedding(20, 16), "encoder": nn.TransformerEncoder(layer, 1), "head": nn.Linear(16, 4)}
    hidden = lambda count: torch.arange(6) >= torch.randint(2, 7, (count, 1))  # noqa: E731
    return Net(forward, **parts).eval(), both(input_ids=tokens(6), mask=hidden)


@case("integer and boolean inputs", "calls")
def integers() -> Any:
    def forward(s: Any, ids: Tensor, flags: Tensor, bytes_: Tensor) -> Tensor:
        x = s.embed(ids).mean(1) + flags[:, :1] * s.gain
        return s.head(torch.tanh(s.a(torch.cat([x, bytes_ / 255], 1))))

    parts = {"embed": nn.Embedding(20, 8), "gain": nn.Parameter(torch.randn(8)), "a": nn.Linear(12, 16)}
    flags, colours = (lambda n: torch.rand(n, 2) < 0.5), (lambda n: torch.randint(0, 256, (n, 4), dtype=torch.uint8))
    net = Net(forward, **parts, head=nn.Linear(16, 4))
    return net, both(ids=tokens(3), flags=flags, bytes_=colours)


@case("float64 and float16 inputs", "calls")
def wide_inputs() -> Any:
    net = Net(lambda s, x, y: plain(s, torch.cat([x, y], 1).to(s.a.weight.dtype)), **layers())
    return net, both(x=lambda n: torch.randn(n, 6).double(), y=lambda n: torch.randn(n, 6).half())


@case("layer that is called several times", "calls")
def several_times() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.a(x)
        for _ in range(3):
            x = x + torch.tanh(s.b(x))
        return s.head(x)

    return Net(forward, **layers()), normal(12)


@case("convolution called without a batch dimension", "calls")
def unbatched() -> Any:
    net = Net(
        lambda s, x: torch.stack([s.head(F.relu(s.conv(one)).flatten()) for one in x]),
        conv=nn.Conv2d(2, 6, 3), head=nn.Linear(54, 4),
    )  # fmt: skip
    return net, normal(2, 5, 5)


@case("convolution fed another number of times", "calls")
def pyramid() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        return sum(s.conv(F.interpolate(x, size=size)).mean((2, 3)) for size in (4, 6, 9))

    return Net(forward, conv=nn.Conv2d(4, 24, 3)), normal(4, 6, 6)


@case("in-place operations on the input", "calls")
def in_place_input() -> Any:
    return Net(lambda s, x: plain(s, x.mul_(0.5).add_(0.1)), **layers()), normal(12)


@case("in-place operations between layers", "calls")
def in_place() -> Any:
    net = Net(lambda s, x: s.head(F.relu_(s.b(s.a(x).tanh_()).add_(0.1))), **layers())
    return net, normal(12)


@case("in-place residual", "calls")
def in_place_residual() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.stem(x)
        x += s.conv(F.relu(x))
        return s.head(x.mean((2, 3)))

    parts = {"stem": nn.Conv2d(2, 12, 3), "conv": nn.Conv2d(12, 12, 3, padding=1), "head": nn.Linear(12, 4)}
    return Net(forward, **parts), normal(2, 6, 6)


@case("forward that counts its calls", "calls", every="changes its buffer")
def counting() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        s.calls += 1
        return plain(s, x)

    return Net(forward, **layers(), calls=Buffer(torch.tensor(0))), normal(12)


@case("view before the head", "calls")
def view() -> Any:
    net = Net(lambda s, x: s.head(F.relu(s.conv(x)).view(len(x), -1)), conv=nn.Conv2d(2, 8, 3), head=nn.Linear(72, 4))
    return net, normal(2, 5, 5)


@case("images with channels last", "calls")
def channels_last() -> Any:
    net = Net(lambda s, x: s.head(F.relu(s.conv(x)).flatten(1)), conv=nn.Conv2d(2, 8, 3), head=nn.Linear(72, 4))
    return net.to(memory_format=torch.channels_last), lambda n: torch.randn(n, 2, 5, 5).to(
        memory_format=torch.channels_last
    )


@case("outputs in a tuple", "calls")
def tuple_output() -> Any:
    return Net(lambda s, x: (plain(s, x), x), **layers()), normal(12)


@case("outputs in a named tuple", "calls")
def named_output() -> Any:
    return Net(lambda s, x: Both(x, plain(s, x)), **layers()), normal(12)


@dataclasses.dataclass
class Output:
    logits: Tensor
    loss: float = 0.0


@case("outputs in a dataclass", "calls")
def dataclass_output() -> Any:
    return Net(lambda s, x: Output(plain(s, x)), **layers()), normal(12)


@case("outputs of several heads by forward", "calls")
def heads() -> Any:
    net = Net(lambda s, x: {"one": {"deep": plain(s, x)}, "two": x}, **layers())
    return net, normal(12), {"extras": {"forward": lambda m, batch: m(batch[0])["one"]["deep"]}}


@case("detector's outputs in parts", "calls")
def in_parts() -> Any:
    net = Net(
        lambda s, x: torch.cat([s.head(torch.tanh(s.a(x))), s.box(torch.tanh(s.a(x)))], 1),
        **layers(box=nn.Linear(16, 2)),
    )
    return net, normal(12), {"extras": {"distill": "kl:4+mse:2"}}


@case("outputs by cosine", "calls")
def cosine() -> Any:
    return Net(plain, **layers()), normal(12), {"extras": {"distill": "cosine"}}


@case("outputs at every pixel", "calls")
def dense() -> Any:
    net = nn.Sequential(nn.Conv2d(2, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 4, 1))
    return net, normal(2, 5, 5), {"extras": {"forward": lambda m, batch: m(batch[0]).permute(0, 2, 3, 1)}}


@case("random numbers in the forward", "calls")
def noisy() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(len(x)))
        return plain(s, x + 0.1 * noise)

    return Net(forward, **layers()), normal(12)
