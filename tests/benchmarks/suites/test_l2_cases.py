from __future__ import annotations

import ast
from pathlib import Path

import pytest

import noworse as nw
from benchmarks.suites.l2 import rows_of
from benchmarks.suites.l2_cases import CASES, EFFORT

ROOT = Path(__file__).resolve().parents[3]
NO_WORSE = {  # ratio at a bound of 0.01, or where the metric says so at a drop
    "resnet20": 30,
    "vgg_small": 40,
    "lenet5": 55,
    "vit_tiny": 16,
    "mobilenetv2": 14,
    "char_gpt": 10,
    "gcn": 20,
}


@pytest.mark.parametrize("name", CASES)
def test_every_case_names_a_task_and_settings_that_there_are(name: str) -> None:
    file, _, attribute = CASES[name].task.rpartition(":")
    functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert attribute in functions
    nw.Options(**CASES[name].options)


@pytest.mark.parametrize(("model", "ratio"), NO_WORSE.items())
def test_every_target_has_its_case(model: str, ratio: int) -> None:
    assert any(
        case.task.endswith(f":{model}") and int(case.ratio) == ratio and case.bound == 0.01 for case in CASES.values()
    )


@pytest.mark.parametrize("task", EFFORT)
@pytest.mark.parametrize("ratio", [30, 50])
def test_every_model_is_measured_at_30_and_50(task: str, ratio: int) -> None:
    assert any(case.task == task and int(case.ratio) == ratio for case in CASES.values())


@pytest.mark.parametrize(("name", "ok"), [("char_gpt at 10", True), ("detector at 20", False)])
def test_a_metric_that_falls_is_a_drop_unless_less_is_better(name: str, ok: bool) -> None:
    verdict = {
        "metric_original": 2.5,
        "metric_compressed": 1.5,
        "mean_difference": 0,
        "upper_bound": 0,
        "changed": None,
    }
    result = {"verdict": verdict, "size": 1, "ratio": 30, "seconds": 1, "memory": 1, "spent": {"net": 3, "grids": 1}}
    rows = {row.name: row for row in rows_of(name, CASES[name], result)}
    row = rows[f"{name}: drop of the metric"]
    assert row.value == (-1 if ok else 1)
    assert row.target == ("" if ok else "<= 0.5")
