"""Which layers of a file are written as products of two grids: a knapsack proposes plans, a little tuning decides."""

from __future__ import annotations

from typing import Any

import torch

from noworse.jobs.draft import Draft
from noworse.propose.ranks.candidates import Analysis, as_matrix
from noworse.propose.ranks.joint import Plans, climb
from noworse.propose.ranks.student import Plan
from noworse.run.resume import alike


def allocated(dense: Draft, budget: float, note: str) -> Draft:
    """Return the draft to tune towards ``budget`` bits: ``dense``, whose tensors all have grids, or one with products.

    A knapsack over the bits and the predicted loss of each layer's grids and products makes plans, which share the
    survey of ``dense``; what they lose after some iterations decides. ``note`` names the choice in a checkpoint.
    """
    survey, terms = dense.survey, dense.terms
    if not survey.analyses:
        return dense

    def tuned(plan: Plans, share: float) -> float:
        trial = Draft(dense.subject, terms.trial(), Plan(survey.analyses, plan), survey)
        trial.start(budget)
        with torch.random.fork_rng(devices=[]):  # all plans, and the run itself, see the same augmented batches
            trial.tuner.run(budget, int(share * terms.options.iterations), note)
        return trial.loss()

    def choose() -> Any:
        weights = sum(analysis.layer.weight.numel() for analysis in survey.analyses.values())
        limit = dense.code_bits(budget) * weights / dense.grids.count
        return terms.world.agree(climb(survey.analyses, limit, tuned))

    def fits(found: Any) -> bool:
        return isinstance(found, dict) and all(_possible(survey.analyses.get(n), choice) for n, choice in found.items())

    chosen = {name: (way, rank) for name, (way, rank) in terms.work.note(note, choose, fits).items()}
    if not chosen:
        return dense
    draft = Draft(dense.subject, terms, Plan(survey.analyses, chosen), survey)
    draft.settings |= dense.settings
    return draft


def _possible(analysis: Analysis | None, choice: Any) -> bool:
    """Whether a way and a rank that a checkpoint names are open to a layer."""
    if analysis is None or not alike(choice, ["", 0]) or choice[0] not in analysis.ways:
        return False
    return bool(1 <= choice[1] <= min(as_matrix(analysis.weight, choice[0]).shape))
