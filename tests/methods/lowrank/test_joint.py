from __future__ import annotations

import torch

from noworse.methods.lowrank.candidates import Candidate
from noworse.methods.lowrank.joint import EASED, GLANCE, LOOK, climb, descend, offered, sought


class Offer:
    """What a layer of this shape offers: ranks below break-even whose truncation is predicted to lose ``lost``."""

    def __init__(self, *shape, ways=("flat",), lost=lambda rank: 0.0):
        self.layer, self.ways, self.lost = torch.nn.Linear(shape[1], shape[0]), ways, lost

    def most_rank(self, way):
        m, n = self.layer.weight.shape
        return (m * n - 1) // (m + n)

    def candidate(self, way, rank):
        return Candidate(way, (rank,), 0, 0.0, self.lost(rank))


def test_descent_takes_the_best_rank_of_each_layer_in_turn():
    analyses = {"a": Offer(60, 60), "b": Offer(40, 40)}
    assert offered(analyses["a"], "flat")[0] == 29

    def loss(plan):
        a, b = (plan.get(name, ("flat", size))[1] for name, size in (("a", 60), ("b", 40)))
        return 1 + abs(a - 15) + abs(b - 40)

    best = descend(analyses, loss)
    assert set(best) == {"a"}
    assert abs(best["a"][1] - 15) <= 1
    assert loss(best) <= min(loss({"a": ("flat", rank)}) for rank in offered(analyses["a"], "flat"))


def test_the_better_way_is_taken():
    analyses = {"a": Offer(60, 60, ways=("flat", "spatial"))}
    assert descend(analyses, lambda plan: 2.0 - (plan.get("a", ("", 0))[0] == "spatial"))["a"][0] == "spatial"


def test_ranks_near_the_best_stay_below_break_even():
    tried = []

    def loss(plan):
        tried.append(plan.get("a", ("flat", 99))[1])
        return 1 / (2 + plan.get("a", ("flat", -1))[1])

    assert descend({"a": Offer(10, 500)}, loss) == {"a": ("flat", 9)}
    assert max(rank for rank in tried if rank != 99) == 9


def test_ranks_that_lose_more_than_the_plan_by_truncation_alone_are_not_tried():
    tried = []

    def loss(plan):
        tried.append(plan.get("a", ("flat", 99))[1])
        return 1.0

    descend({"a": Offer(60, 60, lost=lambda rank: 30 / rank)}, loss)
    assert tried == [99, 29]  # 14 would lose 2.1


def test_the_descent_of_ranks_ends_behind_the_best():
    tried = []

    def loss(plan):
        tried.append(plan.get("a", ("flat", 60))[1])
        return 1 + abs(tried[-1] - 14)

    assert descend({"a": Offer(60, 60)}, loss) == {"a": ("flat", 14)}
    assert tried == [60, 29, 14, 7, 10, 20]


def test_plans_that_are_tuned_a_little_are_grids_the_best_wider_ones_and_single_layers():
    analyses = {"a": Offer(60, 60), "b": Offer(60, 60)}
    plan = {"a": ("flat", 10), "b": ("flat", 18)}
    wide, a, b = {"a": ("flat", 15), "b": ("flat", 27)}, {"a": ("flat", 20)}, {"b": ("flat", 29)}  # below break-even
    for gains, wanted in (
        ((), {}),
        ([{}], {}),
        ([plan], plan),
        ([wide], wide),
        ([a], a),
        ([b], b),
        ([a, {**a, **b}, {**a, **b}], {**a, **b}),
        ([wide, b, b], b),
    ):
        tried = []

        def tuned(trial, share, gains=gains, tried=tried):
            if share == LOOK:
                return -sum(rank for _, rank in trial.values())
            tried.append(trial)
            return -gains.count(trial)

        assert climb(analyses, plan, tuned) == wanted
        assert tried[:3] == [{}, plan, wide]
        assert len(tried) == 5
    assert climb(analyses, {}, lambda plan, share: 1 / 0) == {}


def test_the_largest_layers_alone_are_tried_one_at_a_time():
    names = "abcdef"
    analyses = {name: Offer(60, 60) for name in names}
    tried = []
    climb(analyses, dict.fromkeys(names, ("flat", 10)), lambda plan, share: tried.append((share, plan)) or -len(tried))
    assert [len(plan) for share, plan in tried if share == GLANCE] == [0, 6, 6, 1, 2, 3, 4]


def test_ranks_of_the_plan_that_is_found_are_lowered_as_long_as_a_longer_look_favours_that():
    analyses = {"a": Offer(60, 60), "b": Offer(60, 60)}
    for wanted, looks in ((27, [27, 18]), (18, [27, 18, 12]), (12, [27, 18, 12, 8]), (1, [27, 18, 12, 8, 5, 3, 2, 1])):
        tried = []

        def tuned(plan, share, wanted=wanted, tried=tried):
            if share == GLANCE:
                return abs(plan.get("a", ("flat", 60))[1] - 27)
            tried.append(plan["a"][1])
            return abs(plan["a"][1] - wanted)

        found = climb(analyses, {"a": ("flat", 18), "b": ("spatial", 3)}, tuned)
        assert found["a"] == ("flat", wanted)
        assert tried == looks


def test_ranks_that_truncation_would_ruin_are_not_lowered():
    analyses = {"a": Offer(60, 60), "b": Offer(60, 60, lost=lambda rank: 3 / rank)}  # 18 loses .17, 12 .25

    def tuned(plan, share):
        return plan["a"][1] / 200 if plan else 1.0

    found = climb(analyses, {"a": ("flat", 18), "b": ("flat", 18)}, tuned)
    assert found == {"a": ("flat", 1), "b": ("flat", 18)}


def test_where_no_factors_are_best_there_is_no_longer_look():
    def tuned(plan, share):
        return 1 / 0 if share == LOOK else len(plan)

    assert climb({"a": Offer(60, 60)}, {"a": ("flat", 9)}, tuned) == {}


def test_where_rounding_ruins_every_plan_ranks_are_told_apart_by_a_larger_file():
    analyses = {"a": Offer(60, 60)}

    def loss(wanted, grids, best):
        def of(ease, plan):
            rank = plan.get("a", ("flat", 60))[1]
            return grids.get(ease, 3.0) if rank == 60 else best.get(ease, 2.9) + abs(rank - wanted[ease])

        return of

    one, more, most = EASED
    assert sought(analyses, loss({one: 14}, {}, {one: 0.2})) == {"a": ("flat", 14)}
    assert sought(analyses, loss({one: 29, more: 14}, {}, {more: 0.2})) == {"a": ("flat", 14)}
    assert sought(analyses, loss({one: 29, more: 29, most: 7}, {}, {})) == {"a": ("flat", 7)}
    assert sought(analyses, loss({one: 14}, {one: 0.2}, {one: 0.1})) == {"a": ("flat", 14)}
    assert sought(analyses, loss({one: 14}, {one: 0.2}, {one: 0.3})) == {}
