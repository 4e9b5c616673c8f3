"""Scenes for a detector: one to five Fashion-MNIST items at random places and scales on a black 96 x 96 canvas.

Every image is used in at most one scene of a split, so that scenes may be counted as independent.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo import data

SIDE = 96  # pixels of a scene
SCALES = (20, 40)  # pixels of an item's square, whose content fills less
MOST = 5  # items of a scene
TRIES, OVERLAP = 20, 0.15  # to place an item; largest share of the smaller box that another may cover
# pixels (N, 1, 96, 96) float32, boxes (N, 5, 4) x0 y0 x1 y1, classes (N, 5), -1 where there is no further item
Scenes = tuple[Tensor, Tensor, Tensor]


def tight_box(item: Tensor) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the pixels of (H, W) that are not nearly black."""
    rows, columns = ((item > 0.1).any(axis).nonzero().flatten() for axis in (1, 0))
    if not len(rows):
        return 0, 0, item.shape[1], item.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def covered(box: Tensor, others: Tensor) -> Tensor:
    """Share of the smaller of two boxes that their intersection covers: (4,) against (K, 4) -> (K,)."""
    sides = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp_min(0)
    areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (box, others)]
    return sides.prod(1) / torch.minimum(*torch.broadcast_tensors(*areas))


def compose(items: list[tuple[Tensor, int]], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One scene of some items (28, 28) with pixels in [0, 1]: (1, 96, 96), boxes (5, 4), classes (5,)."""
    canvas, boxes = torch.zeros(SIDE, SIDE), torch.zeros(MOST, 4)
    classes = torch.full((MOST,), -1)
    count = 0
    for item, label in items:
        size = int(torch.randint(SCALES[0], SCALES[1] + 1, (), generator=generator))
        scaled = F.interpolate(item[None, None], size=(size, size), mode="bilinear", antialias=True)[0, 0]
        x0, y0, x1, y1 = tight_box(scaled)
        cut = scaled[y0:y1, x0:x1]
        for _ in range(TRIES):
            free = torch.tensor([SIDE - cut.shape[1] + 1, SIDE - cut.shape[0] + 1])
            x, y = (torch.rand(2, generator=generator) * free).long().tolist()
            box = torch.tensor([x, y, x + cut.shape[1], y + cut.shape[0]], dtype=torch.float32)
            if not count or float(covered(box, boxes[:count]).max()) <= OVERLAP:
                place = canvas[y : y + cut.shape[0], x : x + cut.shape[1]]
                place.copy_(torch.maximum(place, cut))
                boxes[count], classes[count] = box, label
                count += 1
                break
    return canvas[None], boxes, classes


def draw(split: str, count: int, seed: int) -> Scenes:
    """``count`` scenes from a split of ``zoo.data``; where images run out, fewer items are put into a scene."""
    images, labels = data.load(split)
    pixels = (images[:, 0] * data.STD + data.MEAN).clamp(0, 1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator).tolist()
    most = min(MOST, 2 * len(images) // count - 1)  # on average (most + 1) / 2 items
    scenes = []
    for _ in range(count):
        wanted = int(torch.randint(1, most + 1, (), generator=generator))
        chosen, order = order[:wanted], order[wanted:]
        scenes.append(compose([(pixels[i], int(labels[i])) for i in chosen], generator))
    canvases, boxes, classes = (torch.stack(part) for part in zip(*scenes, strict=True))
    return (canvases - data.MEAN) / data.STD, boxes, classes
