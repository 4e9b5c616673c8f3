"""Kinds of layers: convolutions of every shape, norms, attention, embeddings, bare parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.conformance.registry import Buffer, Net, case, normal, param, tokens


def seen(model: nn.Module, *shape: int) -> nn.Module:
    """The model in eval mode, after its norms have seen data."""
    for part in model.modules():
        if hasattr(part, "running_mean") and part.weight is not None:
            nn.init.normal_(part.weight, 1, 0.3)
            nn.init.normal_(part.bias)
    for _ in range(3):
        model(2 * torch.randn(32, *shape) + 1)
    return model.eval()


def classify(*layers: nn.Module) -> nn.Module:
    """Layers before a pooling over all places and a linear head of four classes."""
    return nn.Sequential(*layers, nn.Flatten(2), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(32, 4))


@case("mlp", "layers")
def mlp() -> Any:
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 4)), normal(12)


@case("conv 2d and batch norm", "layers")
def conv() -> Any:
    net = classify(nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2))
    return seen(net, 2, 8, 8), normal(2, 8, 8)


@case("conv 1d", "layers")
def conv1d() -> Any:
    net = classify(nn.Conv1d(3, 8, 3, padding=2, dilation=2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 5))
    return seen(net, 3, 16), normal(3, 16)


@case("conv 3d", "layers")
def conv3d() -> Any:
    net = classify(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 8, 2))
    return seen(net, 1, 5, 5, 5), normal(1, 5, 5, 5)


@case("transposed conv 1d 2d 3d", "layers")
def transposed() -> Any:
    net = classify(
        nn.ConvTranspose2d(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Flatten(2), nn.ConvTranspose1d(4, 8, 3),
        nn.Unflatten(1, (8, 1, 1)), nn.ConvTranspose3d(8, 8, (1, 1, 3)),
    )  # fmt: skip
    return seen(net, 2, 3, 3), normal(2, 3, 3), {"close": 0.3}


@case("grouped transposed conv", "layers")
def grouped_transposed() -> Any:
    return classify(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.ConvTranspose2d(8, 8, 3, 2, 1, 1, groups=4)), normal(2, 4, 4)


@case("depthwise separable conv", "layers")
def depthwise() -> Any:
    net = classify(
        nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.Conv2d(8, 8, 1),
    )  # fmt: skip
    return seen(net, 2, 6, 6), normal(2, 6, 6), {"close": 0.3}


@case("grouped conv", "layers")
def grouped() -> Any:
    net = classify(nn.Conv2d(4, 16, 3, groups=2), nn.GELU(), nn.Conv2d(16, 8, 3, groups=4, padding="same"))
    return net, normal(4, 7, 7)


@case("conv with every padding mode", "layers")
def padding() -> Any:
    modes = ("reflect", "replicate", "circular")
    return classify(nn.Conv2d(2, 8, 3), *(nn.Conv2d(8, 8, 3, padding=1, padding_mode=m) for m in modes)), normal(
        2, 7, 7
    )


@case("conv 1x1 as linear", "layers")
def pointwise() -> Any:
    net = Net(
        lambda s, x: F.linear(F.relu(s.a(x)).mean((2, 3)), s.b.weight.flatten(1), s.b.bias),
        a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 4, 1),
    )  # fmt: skip
    return net, normal(3, 6, 6)


@case("squeeze excite", "layers")
def squeeze_excite() -> Any:
    def forward(s: Any, x: Any) -> Any:
        x = F.silu(s.stem(x))
        x = x * s.up(F.relu(s.down(x.mean((2, 3), keepdim=True)))).sigmoid()
        return s.head(x.mean((2, 3)))

    parts = {"stem": nn.Conv2d(2, 12, 3), "down": nn.Conv2d(12, 4, 1), "up": nn.Conv2d(4, 12, 1)}
    return Net(forward, **parts, head=nn.Linear(12, 4)), normal(2, 6, 6)


@case("residual net with norms that no conv precedes", "layers")
def preactivation() -> Any:
    def forward(s: Any, x: Any) -> Any:
        x = s.stem(x)
        x = x + s.conv(F.relu(s.norm(x)))
        return s.head(x.mean((2, 3)))

    net = Net(
        forward,
        stem=nn.Conv2d(2, 8, 3),
        norm=nn.BatchNorm2d(8),
        conv=nn.Conv2d(8, 8, 3, padding=1),
        head=nn.Linear(8, 4),
    )
    return seen(net, 2, 6, 6), normal(2, 6, 6)


@case("norms of every kind", "layers")
def norms() -> Any:
    net = classify(
        nn.Conv2d(2, 8, 3), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        nn.LayerNorm([6, 6]), nn.BatchNorm2d(8, affine=False), nn.LocalResponseNorm(2),
    )  # fmt: skip
    return seen(net, 2, 8, 8), normal(2, 8, 8)


@case("batch norm without running statistics", "layers")
def stateless_norm() -> Any:
    return classify(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)).eval(), normal(2, 6, 6)


@case("prelu bilinear and softplus", "layers")
def bilinear() -> Any:
    net = Net(
        lambda s, x: s.head(s.act(s.pair(x, F.softplus(s.a(x))))),
        a=nn.Linear(8, 6), pair=nn.Bilinear(8, 6, 10), act=nn.PReLU(10), head=nn.Linear(10, 4),
    )  # fmt: skip
    return net, normal(8)


@case("embedding and embedding bag", "layers")
def embeddings() -> Any:
    net = Net(
        lambda s, x: s.head(torch.cat([s.embed(x).mean(1), s.bag(x)], 1)),
        embed=nn.Embedding(20, 12, padding_idx=0), bag=nn.EmbeddingBag(20, 8, mode="sum"), head=nn.Linear(20, 4),
    )  # fmt: skip
    return net, tokens(6)


@case("sparse embedding", "layers")
def sparse() -> Any:
    net = Net(lambda s, x: s.head(s.embed(x).mean(1)), embed=nn.Embedding(20, 16, sparse=True), head=nn.Linear(16, 4))
    return net, tokens(6)


@case("multi-head attention", "layers")
def attention() -> Any:
    net = Net(
        lambda s, x: s.head(x + s.attend(x, x, x, need_weights=False)[0]),
        attend=nn.MultiheadAttention(16, 4, batch_first=True), head=nn.Linear(16, 4),
    )  # fmt: skip
    return net, normal(5, 16)


@case("multi-head attention across widths", "layers")
def cross_attention() -> Any:
    net = Net(
        lambda s, x: s.head(s.attend(x, x[..., :6], x[..., :6])[0]),
        attend=nn.MultiheadAttention(16, 4, kdim=6, vdim=6, batch_first=True, add_bias_kv=True), head=nn.Linear(16, 4),
    )  # fmt: skip
    return net, normal(5, 16)


@case("transformer encoder", "layers")
def encoder() -> Any:
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(16, 4)).eval(), normal(5, 16)


@case("transformer with encoder and decoder", "layers")
def transformer() -> Any:
    core = nn.Transformer(16, 4, 1, 1, 24, batch_first=True)
    return Net(lambda s, x: s.head(s.core(x, x[:, :3])), core=core, head=nn.Linear(16, 4)).eval(), normal(5, 16)


@case("vision transformer with bare tokens and positions", "layers")
def vit() -> Any:
    def forward(s: Any, x: Any) -> Any:
        x = s.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([s.token.expand(len(x), -1, -1), x], 1) + s.places
        return s.head(s.layer(x)[:, 0])

    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=True)
    parts = {"patch": nn.Conv2d(1, 16, 4, 4), "token": param(1, 1, 16), "places": param(1, 5, 16), "layer": layer}
    return Net(forward, **parts, head=nn.Linear(16, 4)).eval(), normal(1, 8, 8)


@case(
    "bare kernels and matrices", "layers", quantize="no layer can be quantised", decompose="no layer can be decomposed"
)
def bare() -> Any:
    def forward(s: Any, x: Any) -> Any:
        x = torch.tanh(F.conv2d(x, s.kernel)).flatten(1)
        return x @ s.matrix * s.gain + s.shift

    parts = {"kernel": param(4, 2, 3, 3), "matrix": param(64, 4), "gain": param(4, scale=1.0), "shift": param(4)}
    return Net(forward, **parts), normal(2, 6, 6)


@case("parameter list and dict", "layers")
def containers() -> Any:
    def forward(s: Any, x: Any) -> Any:
        for matrix in s.several:
            x = torch.tanh(x @ matrix)
        return s.head(x * s.named["größe"] + s.named["x y"])

    parts = {"several": nn.ParameterList([param(16, 16) for _ in range(2)])}
    parts["named"] = nn.ParameterDict({"größe": param(16), "x y": param(16)})
    return Net(forward, **parts, empty=nn.ParameterList(), head=nn.Linear(16, 4)), normal(16)


@case("deformable sampling with bare offsets", "layers")
def deformable() -> Any:
    def forward(s: Any, x: Any) -> Any:
        grid = F.affine_grid(s.affine.expand(len(x), 2, 3), x.shape, align_corners=False) + s.offsets
        return s.head(F.relu(s.conv(F.grid_sample(x, grid, align_corners=False))).flatten(1))

    affine = nn.Parameter(torch.eye(2, 3)[None] + 0.1 * torch.randn(1, 2, 3))
    parts = {"affine": affine, "offsets": param(1, 6, 6, 2, scale=0.05), "conv": nn.Conv2d(2, 4, 3)}
    return Net(forward, **parts, head=nn.Linear(64, 4)), normal(2, 6, 6)


@case("fourier neural operator with complex weights", "layers")
def fno() -> Any:
    def forward(s: Any, x: Any) -> Any:
        modes = torch.einsum("bim,iom->bom", torch.fft.rfft(s.lift(x))[..., :4], s.spectrum)
        x = F.gelu(torch.fft.irfft(modes, n=x.shape[-1]) + s.local(s.lift(x)))
        return s.head(x.mean(2))

    spectrum = nn.Parameter(0.3 * torch.randn(8, 8, 4, dtype=torch.complex64))
    parts = {"lift": nn.Conv1d(2, 8, 1), "spectrum": spectrum, "local": nn.Conv1d(8, 8, 1), "head": nn.Linear(8, 4)}
    return Net(forward, **parts), normal(2, 16)


@case("tensors that multiply nothing", "layers")
def graph() -> Any:
    def forward(s: Any, x: Any) -> Any:
        x = torch.relu(s.edges @ s.a(x))
        return s.b(s.edges @ x)

    edges = Buffer(torch.softmax(torch.randn(5, 5), 1))
    return Net(forward, edges=edges, a=nn.Linear(8, 16), b=nn.Linear(16, 4)), normal(5, 8)


@case("pixel shuffle and upsampling net for regression", "layers")
def upsampling() -> Any:
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(2, 1, 3, padding=1))
    return net, normal(1, 5, 5), {"extras": {"distill": "mse"}}


@case("one output for regression", "layers")
def regression() -> Any:
    net = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 1))
    return net, normal(8), {"extras": {"distill": "mse"}}
