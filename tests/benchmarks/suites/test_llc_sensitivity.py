from __future__ import annotations

import pytest

from benchmarks.suites.llc_sensitivity import Compared, correlation


def test_ranks_not_values_are_correlated() -> None:
    assert correlation([1.0, 2.0, 3.0], [-5.0, 0.0, 1000.0]) == pytest.approx(1)
    assert correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1)


def test_halves_of_the_truth_are_ranked_against_each_other_and_predictions_against_the_whole() -> None:
    errors = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    one = Compared({"divergence": errors}, {"divergence": 0.6}, {"loss": errors}, {"loss": (errors, errors[::-1])})
    rows = {row.name: row for row in (one + one).rows("net")}
    assert rows["net, divergence: rank correlation with the true loss"].value == pytest.approx(1)
    assert rows["net, divergence: rank correlation with the true loss"].target
    assert rows["net, one half of the images: rank correlation with the loss of the other"].value == pytest.approx(-1)
    assert rows["net, one half of the images: with the loss of the other at 4 bits"].value == pytest.approx(-1)
    assert rows["net, divergence: time of an error"].value == pytest.approx(100)  # ms
