"""Counts and names of the full-size architectures are those that are published, and random weights compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.architectures import ARCHITECTURES, build
from zoo.architectures.mobile import MNASNet
from zoo.architectures.synthetic import images, randomise

# from the state of the published checkpoints: torchvision's, timm's and YOLOv5's
NAMES = {
    "resnet18": ("bn1.running_var", "layer2.0.downsample.0.weight", "layer4.1.conv2.weight", "fc.bias"),
    "resnet50": ("conv1.weight", "layer1.0.downsample.1.bias", "layer4.2.bn3.running_mean", "fc.weight"),
    "mobilenetv2": ("features.0.0.weight", "features.1.conv.1.weight", "features.17.conv.1.0.weight",
                    "features.18.1.num_batches_tracked", "classifier.1.weight"),
    "mnasnet1_0": ("layers.0.weight", "layers.7.bias", "layers.8.2.layers.7.weight", "layers.14.weight",
                   "classifier.1.bias"),
    "mnasnet2_0": ("layers.8.2.layers.7.weight", "layers.12.3.layers.7.weight", "classifier.1.weight"),
    "regnetx_600m": ("stem.conv.weight", "s1.b1.downsample.bn.weight", "s4.b7.conv3.conv.weight", "head.fc.bias"),
    "regnetx_3200m": ("stem.bn.bias", "s2.b6.conv2.conv.weight", "s3.b15.conv1.bn.running_mean", "s4.b2.conv3.bn.bias"),
    "vit_b_16": ("cls_token", "pos_embed", "patch_embed.proj.bias", "blocks.11.attn.qkv.bias",
                 "blocks.0.mlp.fc2.weight", "norm.weight", "head.weight"),
    "yolov5m": ("model.0.conv.weight", "model.4.m.3.cv2.bn.weight", "model.6.m.5.cv1.conv.weight",
                "model.9.cv2.conv.weight", "model.23.cv3.bn.running_var", "model.24.m.2.bias", "model.24.anchors"),
}  # fmt: skip
ENTRIES = {
    "resnet18": 122, "resnet50": 320, "mobilenetv2": 314, "mnasnet1_0": 314, "vit_b_16": 152, "yolov5m": 481,
}  # fmt: skip


def on_paper(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_counts_and_names_are_the_published_ones(name: str) -> None:
    model = on_paper(name)
    state = model.state_dict()
    assert sum(p.numel() for p in model.parameters()) == ARCHITECTURES[name].parameters
    assert [n for n in NAMES[name] if n not in state] == []
    assert len(state) == ENTRIES.get(name, len(state))


def test_mnasnet_of_a_third_width_counts_as_published() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in MNASNet(1.3).parameters()) == 6_282_256


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "yolov5m"])
def test_random_weights_give_finite_outputs_that_depend_on_the_image(name: str) -> None:
    batches = list(images(8, 64, 0).split(4))
    model = randomise(build(name), 0, batches)
    with torch.no_grad():
        outputs = torch.cat([model(batch) for batch in batches]).flatten(1)
    assert torch.isfinite(outputs).all()
    assert 0.05 < float(outputs.std(0).mean()) < 100
    weights = dict(model.named_parameters())
    large = max(weights.values(), key=torch.numel).detach()
    kurtosis = float((large / large.std()).pow(4).mean())
    assert kurtosis > 4.5  # 3 for a normal distribution
