"""Mean average precision of a detector at an intersection over union of one half (mAP@0.5, PASCAL VOC 2010 and later).

Detections of a class, most certain first, each take the yet unmatched object of their image and class that they overlap
most, if by one half at least. Average precision is the area under precision against recall, precision made to fall.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes x0 y0 x1 y1: (..., N, 4) and (..., M, 4) -> (..., N, M)."""
    a, b = first.unsqueeze(-2), second.unsqueeze(-3)
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0)
    shared = sides.prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).clamp_min(0).prod(-1) for box in (a, b))
    return shared / (area_a + area_b - shared).clamp_min(1e-9)


def suppress(boxes: Tensor, scores: Tensor, limit: float) -> list[int]:
    """Non-maximum suppression: the indices of (N, 4) boxes that no kept one of higher score overlaps by ``limit``."""
    kept: list[int] = []
    table = overlaps(boxes, boxes)
    for index in scores.argsort(descending=True, stable=True).tolist():
        if not kept or float(table[index, kept].max()) < limit:
            kept.append(index)
    return kept


def average_precision(scores: Tensor, hits: Tensor, objects: int) -> float:
    """Area under the curve of (N,) detections with their scores, and whether each hits one of ``objects`` objects."""
    if objects == 0 or len(scores) == 0:
        return 0.0
    order = scores.argsort(descending=True, stable=True)
    found = hits[order].double().cumsum(0)
    precision = found / torch.arange(1, len(found) + 1)
    falling = precision.flip(0).cummax(0).values.flip(0)
    return float((falling * hits[order]).sum() / objects)


def match(boxes: Tensor, scores: Tensor, objects: Tensor, limit: float = 0.5) -> Tensor:
    """Which of (N, 4) detections of one class in one image hit one of its (M, 4) objects, (N,) bool."""
    hits = torch.zeros(len(boxes), dtype=torch.bool)
    free = torch.ones(len(objects), dtype=torch.bool)
    table = overlaps(boxes, objects)
    for index in scores.argsort(descending=True, stable=True).tolist():
        row = torch.where(free, table[index], -1.0)
        if len(row) and float(row.max()) >= limit:
            hits[index] = True
            free[int(row.argmax())] = False
    return hits


Detections = Sequence[tuple[Tensor, Tensor, Tensor]]  # of every image: boxes (N, 4), scores (N,), classes (N,)


def mean_average_precision(detections: Detections, truth: Iterable[tuple[Tensor, Tensor]], classes: int) -> float:
    """Mean over the classes that occur, in per cent; ``truth`` holds boxes (M, 4) and classes (M,) of every image."""
    scores: list[list[Tensor]] = [[] for _ in range(classes)]
    hits: list[list[Tensor]] = [[] for _ in range(classes)]
    objects = torch.zeros(classes, dtype=torch.int64)
    for (boxes, certain, kinds), (true_boxes, true_kinds) in zip(detections, truth, strict=True):
        objects += torch.bincount(true_kinds, minlength=classes)
        for kind in kinds.unique().tolist():
            mine = kinds == kind
            scores[kind].append(certain[mine])
            hits[kind].append(match(boxes[mine], certain[mine], true_boxes[true_kinds == kind]))
    found = [
        average_precision(torch.cat(scores[k]), torch.cat(hits[k]), int(objects[k])) if scores[k] else 0.0
        for k in range(classes)
        if objects[k]
    ]
    return 100 * sum(found) / len(found)
