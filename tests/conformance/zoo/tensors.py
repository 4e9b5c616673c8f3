"""Dtypes, memory, buffers and names of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conformance.registry import Buffer, Net, case, normal, param

FLOAT32 = "expected numbers that float32 has"


def layers(**parts: Any) -> dict[str, Any]:
    return {"a": nn.Linear(12, 16), "b": nn.Linear(16, 16), "head": nn.Linear(16, 4), **parts}


def plain(s: Any, x: Tensor) -> Tensor:
    x = x.to(s.a.weight.dtype)
    return s.head(torch.tanh(s.b(torch.tanh(s.a(x)))))


def convolutional(dtype: torch.dtype, norm: torch.dtype | None = None) -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.conv(x.to(s.conv.weight.dtype))
        x = F.relu(s.norm(x.to(s.norm.weight.dtype))).mean((2, 3))
        return s.head(x.to(s.head.weight.dtype))

    parts = {"conv": nn.Conv2d(2, 24, 3), "norm": nn.BatchNorm2d(24), "head": nn.Linear(24, 4)}
    net = Net(forward, **parts).to(dtype)
    nn.init.uniform_(net.norm.running_var, 0.5, 2)
    nn.init.normal_(net.norm.weight, 1, 0.2)
    net.norm.to(norm or dtype)
    return net.eval()


@case("bfloat16 model", "tensors")
def bfloat16() -> Any:
    return Net(plain, **layers()).bfloat16(), normal(12), {"close": 0.3}


@case("float16 model", "tensors")
def float16() -> Any:
    return Net(plain, **layers()).half(), normal(12)


@case("float64 model", "tensors")
def float64() -> Any:
    return Net(plain, **layers()).double(), normal(12)


@case("bfloat16 convolutions with norms", "tensors")
def bfloat16_conv() -> Any:
    return convolutional(torch.bfloat16), normal(2, 6, 6), {"close": 0.3}


@case("bfloat16 convolutions with float32 norms", "tensors")
def mixed() -> Any:
    return convolutional(torch.bfloat16, torch.float32), normal(2, 6, 6), {"close": 0.3}


@case("float64 convolutions with norms", "tensors")
def float64_conv() -> Any:
    return convolutional(torch.float64), normal(2, 6, 6), {"close": 0.3}


@case("forward that casts to bfloat16 itself", "tensors")
def hard_cast() -> Any:
    net = Net(lambda s, x: plain(s, x.to(torch.bfloat16).to(torch.float32)), **layers())
    return net, normal(12)


@case("float8 buffer with a scale", "tensors")
def float8_buffer() -> Any:
    weight = torch.randn(16, 16)
    net = Net(
        lambda s, x: s.head(F.linear(torch.tanh(s.a(x)), s.w8.float() * s.scale)),
        a=nn.Linear(12, 16), w8=Buffer(weight.to(torch.float8_e4m3fn)), scale=Buffer(torch.tensor(0.25)),
        head=nn.Linear(16, 4),
    )  # fmt: skip
    return net, normal(12)


@case("int8 weights in buffers", "tensors")
def int8_buffers() -> Any:
    net = Net(
        lambda s, x: s.head(F.linear(torch.tanh(s.a(x)), (s.w8 - s.zero) * s.scale[:, None])),
        a=nn.Linear(12, 16), w8=Buffer(torch.randint(-128, 128, (16, 16), dtype=torch.int8)),
        zero=Buffer(torch.tensor(3, dtype=torch.int8)), scale=Buffer(torch.rand(16) / 100), head=nn.Linear(16, 4),
    )  # fmt: skip
    return net, normal(12)


@case("packed four-bit weights in buffers", "tensors")
def int4_buffers() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        low, high = s.packed & 15, s.packed >> 4
        weight = torch.stack([low, high], -1).flatten(1).float().sub(8) * s.scale
        return s.head(F.linear(torch.tanh(s.a(x)), weight))

    packed = Buffer(torch.randint(0, 256, (16, 8), dtype=torch.uint8))
    return Net(
        forward, a=nn.Linear(12, 16), packed=packed, scale=Buffer(torch.tensor(0.05)), head=nn.Linear(16, 4)
    ), normal(12)


@case("quantised tensor in a buffer", "tensors", every="expected a dense tensor", file="expected")
def torch_quantised() -> Any:
    weight = torch.quantize_per_tensor(torch.randn(16, 16), 0.05, 0, torch.qint8)
    net = Net(
        lambda s, x: s.head(F.linear(torch.tanh(s.a(x)), s.q.dequantize())),
        a=nn.Linear(12, 16), q=Buffer(weight), head=nn.Linear(16, 4),
    )  # fmt: skip
    return net, normal(12)


@case("fake-quantised layers", "tensors")
def fake_quantised() -> Any:
    net = Net(
        lambda s, x: plain(s, torch.fake_quantize_per_tensor_affine(x, s.scale, s.zero, -128, 127)),
        **layers(scale=Buffer(torch.tensor(0.05)), zero=Buffer(torch.tensor(0, dtype=torch.int32))),
    )
    return net, normal(12)


@case("float64 buffers of extreme numbers", "tensors", quantize=FLOAT32, decompose=FLOAT32)
def extreme_buffers() -> Any:
    numbers = torch.tensor([1e300, 1e-300, 0.1, 1 / 3], dtype=torch.float64)
    net = Net(lambda s, x: plain(s, x) * (s.numbers[0] > 2) + s.numbers[3].float(), **layers(numbers=Buffer(numbers)))
    return net, normal(12)


@case("infinite and nan buffers", "tensors")
def infinite_buffers() -> Any:
    numbers = torch.tensor([float("inf"), float("nan"), -0.0, 1.0])
    return Net(
        lambda s, x: plain(s, x) + s.numbers[3] * s.numbers.isnan().sum(), **layers(numbers=Buffer(numbers))
    ), normal(12)


@case("nan in a parameter", "tensors", every="NaN or infinite")
def nan_parameter() -> Any:
    net = Net(plain, **layers(spare=nn.Linear(4, 4)))
    with torch.no_grad():
        net.spare.weight[1, 2] = float("nan")
    return net, normal(12)


@case("integer and boolean buffers and parameters", "tensors")
def integers() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        return plain(s, x[:, s.order] * s.flags)

    flags = nn.Parameter(torch.arange(12) % 3 > 0, requires_grad=False)
    order = nn.Parameter(torch.arange(12).flip(0), requires_grad=False)
    return Net(forward, **layers(order=order, flags=flags, count=Buffer(torch.tensor(2**40)))), normal(12)


@case("complex buffers", "tensors")
def complex_buffers() -> Any:
    turn = torch.polar(torch.ones(6), torch.randn(6))
    net = Net(
        lambda s, x: plain(s, torch.view_as_real(torch.view_as_complex(x.view(-1, 6, 2)) * s.turn).flatten(1)),
        **layers(turn=Buffer(turn)),
    )
    return net, normal(12)


@case("scalars and one-element tensors", "tensors")
def scalars() -> Any:
    parts = {"gain": nn.Parameter(torch.tensor(1.3)), "one": nn.Parameter(torch.tensor([[0.7]]))}
    return Net(lambda s, x: plain(s, x) * s.gain + s.one, **layers(**parts, shift=Buffer(torch.tensor(0.1)))), normal(
        12
    )


@case("tensors of no elements", "tensors")
def empty() -> Any:
    parts = {"none": param(0, 5), "nothing": Buffer(torch.zeros(3, 0)), "layer": nn.Linear(0, 16)}
    net = Net(lambda s, x: s.head(torch.tanh(s.a(x) + s.layer(x[:, :0]))), **layers(**parts))
    return net, normal(12)


@case("constant parameters", "tensors")
def constant() -> Any:
    parts = {"ones": nn.Parameter(torch.ones(12)), "zeros": nn.Parameter(torch.zeros(12))}
    return Net(lambda s, x: plain(s, x * s.ones + s.zeros), **layers(**parts)), normal(12)


@case("parameter that is none", "tensors")
def none() -> Any:
    net = Net(lambda s, x: plain(s, x), **layers())
    net.register_parameter("nothing", None)
    net.register_buffer("nobody", None)
    return net, normal(12)


@case("buffers that are not persistent", "tensors")
def fleeting() -> Any:
    return Net(
        lambda s, x: plain(s, x + s.shift), **layers(shift=Buffer(torch.arange(12.0), persistent=False))
    ), normal(12)


@case("parameters that are not contiguous", "tensors")
def strided() -> Any:
    whole = 0.3 * torch.randn(64, 32)
    net = Net(lambda s, x: s.head(torch.tanh(torch.tanh(s.a(x)) @ s.left) @ s.right), **layers())
    net.left, net.right = nn.Parameter(whole[:16].t()[:16]), nn.Parameter(whole[32:48, ::2])
    return net, normal(12)


@case("linear layer whose weight is transposed in memory", "tensors")
def transposed_memory() -> Any:
    net = Net(plain, **layers())
    net.b.weight = nn.Parameter(net.b.weight.detach().t().contiguous().t())
    return net, normal(12)


@case("expanded parameter", "tensors")
def expanded() -> Any:
    gain = nn.Parameter(torch.randn(1, 4).expand(8, 4))
    return Net(lambda s, x: plain(s, x) * s.gain[0], **layers(gain=gain)), normal(12)


@case("expanded buffer", "tensors")
def expanded_buffer() -> Any:
    spread = Buffer(torch.randn(1, 4).expand(8, 4))
    return Net(lambda s, x: plain(s, x) * s.spread[0], **layers(spread=spread)), normal(12)


@case("convolution with channels last in memory", "tensors")
def channels_last() -> Any:
    return convolutional(torch.float32).to(memory_format=torch.channels_last), normal(2, 6, 6), {"close": 0.3}


@case("weights of very different scales", "tensors")
def scales() -> Any:
    net = Net(lambda s, x: s.head(torch.tanh(s.b(s.a(x) * 1e20) * 1e-20)), **layers())
    with torch.no_grad():
        net.a.weight.mul_(1e-20)
        net.a.bias.zero_()
        net.b.weight.mul_(1e20)
        net.b.bias.zero_()
    return net, normal(12)


@case("denormal numbers in a weight", "tensors")
def denormal() -> Any:
    net = Net(plain, **layers())
    with torch.no_grad():
        net.b.weight[0] = 1e-40
    return net, normal(12)


@case("modules and tensors with odd names", "tensors")
def names() -> Any:
    net = Net(lambda s, x: getattr(s, "head ✓")(torch.tanh(s.module.weight_(x) * s.größe)))
    net.module = nn.Module()
    net.module.weight_ = nn.Linear(12, 16)
    net.add_module("head ✓", nn.Linear(16, 4))
    net.register_parameter("größe", param(16, scale=1.0))
    net.register_buffer("a\nb", torch.randn(3))
    return net, normal(12)


@case("modules whose names contain each other", "tensors")
def prefixes() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        return s.x2(torch.tanh(getattr(s, "x output")(torch.tanh(s.x(x)))))

    net = Net(forward, x=nn.Linear(12, 16), x2=nn.Linear(16, 4))
    net.add_module("x output", nn.Linear(16, 16))
    return net, normal(12)


@case("modules named like our own", "tensors")
def own_names() -> Any:
    def forward(s: Any, x: Tensor) -> Tensor:
        return s._modules["weight"](torch.tanh(s._modules["0"](torch.tanh(s._modules["parametrizations_"](x)))))

    net = Net(forward)
    for name, layer in {
        "parametrizations_": nn.Linear(12, 16),
        "0": nn.Linear(16, 16),
        "weight": nn.Linear(16, 4),
    }.items():
        net.add_module(name, layer)
    return net, normal(12)


@case("very small tensors alone", "tensors", compress="are needed even with every weight pruned")
def tiny() -> Any:
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)), normal(3)
