from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.precision import average_precision, match, mean_average_precision, overlaps, suppress


def box(x: float, y: float, side: float = 10) -> list[float]:
    return [x, y, x + side, y + side]


def test_overlaps_by_hand() -> None:
    a = torch.tensor([box(0, 0), box(0, 0, 20)])
    b = torch.tensor([box(0, 0), box(5, 0), box(10, 10), box(30, 30)])
    assert overlaps(a, b)[0].tolist() == pytest.approx([1, 1 / 3, 0, 0])  # 50 shared of 150; they only touch
    assert overlaps(a, b)[1].tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 4, 0])


def test_suppression_keeps_the_most_certain_of_those_that_overlap() -> None:
    boxes = torch.tensor([box(1, 0), box(0, 0), box(3, 0), box(40, 40)])
    # the second suppresses the first (9/11) and third (7/13 > 1/2) but not the distant one
    assert suppress(boxes, torch.tensor([0.8, 0.9, 0.5, 0.1]), 0.5) == [1, 3]
    assert suppress(boxes, torch.tensor([0.8, 0.9, 0.5, 0.1]), 0.6) == [1, 2, 3]


def test_an_object_is_hit_once_and_by_the_most_certain() -> None:
    boxes = torch.tensor([box(1, 0), box(0, 0), box(20, 0), box(28, 0)])
    objects = torch.tensor([box(0, 0), box(20, 0)])
    assert match(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), objects).tolist() == [True, False, True, False]
    assert match(boxes, torch.tensor([0.8, 0.9, 0.7, 0.6]), objects).tolist() == [False, True, True, False]
    assert match(boxes, torch.ones(4), torch.zeros(0, 4)).tolist() == [False] * 4


def test_average_precision_by_hand() -> None:
    # hit, miss, hit of 4 objects: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 1/2
    assert average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]), 4) == pytest.approx(
        1 / 4 * 1 + 1 / 4 * 2 / 3
    )
    # miss, hit, hit of 2: precision 0, 1/2, 2/3, of which the envelope is 2/3 throughout
    found = average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([False, True, True]), 2)
    assert found == pytest.approx(2 / 3)


def slow_average_precision(scores: list[float], hits: list[bool], objects: int) -> float:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    points = []
    for cut in range(1, len(order) + 1):
        right = sum(hits[i] for i in order[:cut])
        points.append((right / objects, right / cut))
    area, before = 0.0, 0.0
    for k, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[k:])
        before = recall
    return area


@settings(max_examples=100)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 20), st.randoms(use_true_random=False))
def test_average_precision_against_its_definition(hits: list[bool], missed: int, random: object) -> None:
    scores = [i / 100 for i in range(len(hits))]
    random.shuffle(scores)  # type: ignore[attr-defined]
    objects = max(1, sum(hits) + missed)
    found = average_precision(torch.tensor(scores), torch.tensor(hits), objects)
    assert found == pytest.approx(slow_average_precision(scores, hits, objects), abs=1e-6)


def test_mean_over_classes_by_hand() -> None:
    def detections(*rows: tuple[list[float], float, int]) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, kinds = zip(*rows, strict=True)
        return torch.tensor(boxes), torch.tensor(scores), torch.tensor(kinds)

    truth = [
        (torch.tensor([box(0, 0), box(50, 50)]), torch.tensor([0, 1])),
        (torch.tensor([box(0, 0)]), torch.tensor([0])),
    ]
    found = [
        detections((box(0, 1), 0.9, 0), (box(50, 50), 0.8, 2)),  # right; the right place but another class
        detections((box(30, 30), 0.95, 0), (box(1, 1), 0.6, 0)),  # nothing there; 81 shared of 119: right
    ]
    # class 0: miss, hit, hit of two objects: 2/3; class 1: never found: 0; class 2 has no objects and does not count
    assert mean_average_precision(found, truth, 10) == pytest.approx(100 * (2 / 3 + 0) / 2)
