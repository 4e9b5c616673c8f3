import math

import pytest

from noworse.rate.control import RateController, budget_at


def test_controller_brings_a_simulated_file_to_its_budget() -> None:
    """Bits that fall with λ as those of a net do (a slow pull towards a point that depends on ln λ)."""
    controller, bits, budget = RateController(1e-3), 150.0, 100.0
    for _ in range(600):
        wanted = 100.0 * math.exp(-0.2 * math.log(controller.update(bits, budget) / 0.05))
        bits += 0.02 * (min(max(wanted, 20.0), 400.0) - bits)
    assert bits == pytest.approx(budget, rel=0.01)


def test_budget_path() -> None:
    assert budget_at(0, 200, 100, 0.2) == 200
    assert budget_at(0.1, 400, 100, 0.2) == pytest.approx(200)
    assert budget_at(0.2, 200, 100, 0.2) == budget_at(0.9, 200, 100, 0.2) == 100
