"""Task ``detector``: a small one-stage detector on scenes of Fashion-MNIST items (``zoo.scenes``), judged by mAP@0.5.

On a grid of 12 x 12 cells the net tells, per cell, the logits of eleven outcomes (nothing, or an item of one of ten
classes has its centre here) and a box: the centre's place in the cell and the logarithms of width and height, as YOLO
does (Redmon and Farhadi, YOLO9000, 2017). ``calib`` is scenes of the embedded training images without labels,
``verify`` scenes of test images. The loss of a scene is objectness and class (the cross-entropy of the outcomes in
nats, summed over cells) plus the smooth L1 error of the boxes, both per item. Distilled are the outcomes' logits, and
the boxes weighted with the probability that there is something in them.

``python -m zoo.detection`` trains the net again (needs ``python -m zoo.data``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.task.task import Task, TaskUnavailable
from zoo import scenes
from zoo.fitting import Recipe, fit, restore, save
from zoo.precision import mean_average_precision, suppress

CELLS = 12
STRIDE = scenes.SIDE // CELLS
CLASSES, BOX = 10, 4
OUTCOMES = 1 + CLASSES  # nothing, or one of the classes
CANDIDATES, SAME = 30, 0.5  # cells looked at per scene; overlap of two detections of one item
BOX_WEIGHT = 2.0
CALIB, DEVELOPMENT, VERIFY, TRAIN = 1500, 1500, 2000, 10000  # scenes
CALIB_BATCH, VERIFY_BATCH = 100, 250
RECIPE = Recipe("adamw", 4e-3, 2e-2, epochs=4, batch=64, bfloat16=True)


class Detector(nn.Module):
    """Seven 3x3 conv-bn-relu layers of 16 to 128 channels with stride 8 in all, and a linear head on every cell."""

    LAYERS = ((16, 2), (32, 2), (32, 1), (64, 2), (96, 1), (128, 1), (128, 1))  # channels, stride

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 1
        for channels, stride in self.LAYERS:
            layers += [nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            channels_in = channels
        self.features = nn.Sequential(*layers)
        self.outcome = nn.Conv2d(channels_in, OUTCOMES, 1)
        self.box = nn.Conv2d(channels_in, BOX, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (B, 1, 96, 96) -> (B, 144, 11), (B, 144, 4)
        x = self.features(x)
        outcome, box = self.outcome(x), self.box(x)
        return outcome.flatten(2).transpose(1, 2), box.flatten(2).transpose(1, 2)


def corners(box: Tensor) -> Tensor:
    """Boxes x0 y0 x1 y1 in pixels of what the net says of all cells: (B, 144, 4) -> (B, 144, 4)."""
    index = torch.arange(CELLS * CELLS)
    cell = torch.stack([index % CELLS, index // CELLS], 1)  # x, y
    centre = (cell + box[..., :2].sigmoid()) * STRIDE
    half = box[..., 2:].clamp(-4, 4).exp() * STRIDE / 2
    return torch.cat([centre - half, centre + half], -1)


def targets(boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For every item of (B, 5) its cell, and the box that the net should say, (B, 5, 4); the outcomes (B, 144)."""
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2 / STRIDE, (boxes[..., 2:] - boxes[..., :2]) / STRIDE
    place = centre.long().clamp(0, CELLS - 1)
    cell = place[..., 1] * CELLS + place[..., 0]
    outcome = torch.zeros(len(boxes), CELLS * CELLS, dtype=torch.int64)
    present = classes >= 0
    scene = torch.arange(len(boxes))[:, None].expand_as(cell)
    outcome[scene[present], cell[present]] = classes[present] + 1
    return cell, torch.cat([centre - place, size.clamp_min(1e-3).log()], -1), outcome


def loss(model: nn.Module, batch: scenes.Scenes) -> Tensor:
    """Outcome and box loss per item of every scene, (B,)."""
    pixels, boxes, classes = batch
    logits, found = model(pixels)
    cell, wanted, outcome = targets(boxes, classes)
    outcome_loss = F.cross_entropy(logits.transpose(1, 2), outcome, reduction="none").sum(1)
    said = found.gather(1, cell[..., None].expand(-1, -1, BOX))
    said = torch.cat([said[..., :2].sigmoid(), said[..., 2:]], -1)
    box_loss = F.smooth_l1_loss(said, wanted, reduction="none", beta=0.1).sum(-1)  # (B, 5)
    present = classes >= 0
    return (outcome_loss + BOX_WEIGHT * (box_loss * present).sum(1)) / present.sum(1).clamp_min(1)


def forward(model: nn.Module, batch: Any) -> Tensor:
    """What is distilled, (B, 144, 11 + 4): logits of the outcomes, and boxes as far as there is something in them."""
    logits, box = model(batch if isinstance(batch, Tensor) else batch[0])
    something = 1 - logits.softmax(-1)[..., :1]
    place = torch.cat([box[..., :2].sigmoid(), box[..., 2:]], -1)
    return torch.cat([logits, something * place], -1)


def detect(logits: Tensor, box: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Boxes (N, 4), scores (N,) and classes (N,) of every scene: each cell's best class, one detection per item."""
    scores, classes = logits.softmax(-1)[..., 1:].max(-1)  # (B, 144)
    best, cells = scores.topk(CANDIDATES, 1)
    places = corners(box).gather(1, cells[..., None].expand(-1, -1, BOX))
    kinds = classes.gather(1, cells)
    found = []
    for place, score, kind in zip(places, best, kinds, strict=True):
        apart = place + 2 * scenes.SIDE * kind[:, None]  # boxes of different classes never overlap
        kept = suppress(apart, score, SAME)
        found.append((place[kept], score[kept], kind[kept]))
    return found


@torch.no_grad()
def map_50_percent(model: nn.Module, batches: Iterable[scenes.Scenes]) -> float:
    """mAP@0.5 over all scenes, in per cent."""
    found, truth = [], []
    for pixels, boxes, classes in batches:
        found += detect(*model(pixels))
        truth += [(b[c >= 0], c[c >= 0]) for b, c in zip(boxes, classes, strict=True)]
    return mean_average_precision(found, truth, CLASSES)


def augment(pixels: Tensor) -> Tensor:
    """A random horizontal flip of every scene, (B, 1, 96, 96); torch's global generator."""
    return torch.where(torch.rand(len(pixels), 1, 1, 1) < 0.5, pixels.flip(3), pixels)


def batches_of(found: scenes.Scenes, size: int) -> list[scenes.Scenes]:
    """Scenes in batches."""
    return list(zip(*(part.split(size) for part in found), strict=True))


def build(split: str = "test") -> Task:
    """The task judged on scenes of ``"test"`` or of ``"development"`` images (which need the full training set)."""
    count, seed = (VERIFY, 2) if split == "test" else (DEVELOPMENT, 3)
    try:
        judged = scenes.draw(split, count, seed)
    except FileNotFoundError as error:
        raise TaskUnavailable(str(error)) from error
    return Task(
        model=restore("detector", Detector(), "python -m zoo.detection"),
        loss=loss,
        calib=list(scenes.draw("calib", CALIB, 1)[0].split(CALIB_BATCH)),
        verify=batches_of(judged, VERIFY_BATCH),
        metric=map_50_percent,
        forward=forward,
        distill=f"kl:{OUTCOMES}+mse:{BOX}",
        augment=augment,
        name="detector" + ("" if split == "test" else f" ({split})"),
    )


def detector() -> Task:
    """The detector on scenes of Fashion-MNIST items."""
    return build()


def dev_task() -> Task:
    """The same task judged on scenes of other training images, for choosing settings."""
    return build("development")


def train(recipe: Recipe = RECIPE) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train on scenes of the training images that the development split does not hold."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    pixels, boxes, classes = scenes.draw("train", TRAIN, seed=0)
    held_out = batches_of(scenes.draw("development", DEVELOPMENT, seed=3), VERIFY_BATCH)
    model = Detector().to(memory_format=torch.channels_last)
    steps = TRAIN // recipe.batch

    def epoch() -> Iterator[scenes.Scenes]:
        for rows in torch.randperm(TRAIN, generator=generator)[: steps * recipe.batch].split(recipe.batch):
            flip = torch.rand(recipe.batch, generator=generator) < 0.5
            chosen, places = pixels[rows], boxes[rows]
            mirrored = torch.stack([scenes.SIDE - places[..., 2], places[..., 1],
                                    scenes.SIDE - places[..., 0], places[..., 3]], -1)
            yield (torch.where(flip[:, None, None, None], chosen.flip(3), chosen),
                   torch.where(flip[:, None, None], mirrored, places), classes[rows])

    log = fit(model, epoch, steps, lambda m, b: loss(m, b).mean(), lambda m: scores(m, held_out, "dev"), recipe)
    return model, log


@torch.no_grad()
def scores(model: nn.Module, batches: list[scenes.Scenes], split: str) -> dict[str, float]:
    """Mean loss and mAP@0.5, named after the split."""
    mean = torch.cat([loss(model, batch) for batch in batches]).double().mean().item()
    return {f"{split}_loss": round(mean, 5), f"{split}_map": round(map_50_percent(model, batches), 2)}


def main() -> None:
    torch.set_num_threads(1)
    model, log = train()
    test = batches_of(scenes.draw("test", VERIFY, seed=2), VERIFY_BATCH)
    save("detector", model, RECIPE, log, scores(model, test, "test"))


if __name__ == "__main__":
    main()
