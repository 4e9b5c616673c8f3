"""Wrappers of torch are looked through in all verbs; what cannot be worked on is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from noworse.errors import BadInput
from noworse.io import load_file, save_file
from noworse.jobs.decompose import decompose_task, load_decomposed
from noworse.jobs.quantize import load_quantized, quantize_task
from noworse.model.load import load_model
from noworse.model.wrapped import eager, require_whole, unwrapped, without_prefix
from noworse.task.task import Task
from tests.tiny import loss, mlp, run, task

WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "parallel": nn.DataParallel,
    "both": lambda module: torch.compile(nn.DataParallel(module), backend="eager"),
}


def compiled_part() -> nn.Module:
    made: Any = torch.compile(nn.Linear(2, 2), backend="eager")
    return nn.Sequential(made)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_models_make_the_files_of_the_models_inside(tmp_path: Path, name: str) -> None:
    model = mlp(16)
    plain = run(task(model), tmp_path / "plain.nwt", 3, iterations=2)
    wrapped = WRAPPERS[name](model)
    job = task(model)
    run(Task(wrapped, loss, job.calib, job.verify), tmp_path / "wrapped.nwt", 3, iterations=2)
    assert Path(plain.path).read_bytes() == (tmp_path / "wrapped.nwt").read_bytes()
    assert list(load_file(tmp_path / "wrapped.nwt")) == list(model.state_dict())


@pytest.mark.parametrize("name", WRAPPERS)
def test_files_with_and_without_prefixes_load_into_modules_with_and_without_them(tmp_path: Path, name: str) -> None:
    model, x = mlp(16), torch.randn(3, 20)
    save_file(model.state_dict(), tmp_path / "plain.nwt")
    save_file(WRAPPERS[name](model).state_dict(), tmp_path / "wrapped.nwt")
    for path in tmp_path.iterdir():
        for build in (lambda module: module, WRAPPERS[name]):
            fresh = build(nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4)))
            assert load_model(fresh, path) is fresh
            assert torch.equal(unwrapped(fresh)(x), model(x))


@pytest.mark.parametrize("name", ["compiled", "parallel"])
def test_results_of_other_verbs_load_into_wrapped_modules(tmp_path: Path, name: str) -> None:
    job, x = task(mlp(16)), torch.randn(3, 20)
    wrapped = Task(WRAPPERS[name](job.model), loss, job.calib, job.verify)
    quantised = quantize_task(wrapped, tmp_path / "q.nwt", bits=6, tolerance=None, progress=None)
    decomposed = decompose_task(wrapped, tmp_path / "d.nwt", drop=0.3, tolerance=None, progress=None)
    for load, path, made in ((load_quantized, "q.nwt", quantised), (load_decomposed, "d.nwt", decomposed)):
        fresh = WRAPPERS[name](mlp(16))
        assert load(fresh, tmp_path / path) is fresh
        assert torch.equal(unwrapped(fresh)(x), made.module(x))
        with pytest.raises(BadInput, match="the class Linear: expected an object"):
            load(nn.Linear, tmp_path / path)  # type: ignore[arg-type]


def test_a_prefix_that_is_the_modules_own_stays() -> None:
    state = {"module.weight": 1, "module.bias": 2}
    assert without_prefix(state, ["module.weight", "module.bias"]) == state
    assert without_prefix({**state, "other": 3}, ["weight"]) == {**state, "other": 3}


def test_compiled_parts_run_as_they_were_written() -> None:
    compiles: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiles.append(1)
        return graph.forward

    made: Any = torch.compile(nn.Linear(2, 2), backend=backend)
    with eager():
        made(torch.zeros(1, 2))
    assert not compiles
    made(torch.zeros(1, 2))
    assert compiles


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU(), torch.jit.script(nn.Linear(2, 2))), "module '1' is scripted or traced"),
        (lambda: torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), "module '' is scripted or traced"),
        (lambda: torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)).module(), "an exported program"),
        (lambda: nn.Sequential(nn.LazyLinear(2)), "'0.weight' of a lazy module has no shape yet"),
        (lambda: nn.BatchNorm1d(2, affine=False, device="meta"), "'running_mean' has no numbers"),
        (lambda: nn.Linear, "the class Linear: expected an object"),
        (lambda: {"weight": torch.zeros(2)}, "is dict: expected an object"),
    ],
)
def test_what_cannot_be_worked_on(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        require_whole(build(), "the model")
    with pytest.raises(BadInput, match=message):
        Task(build(), loss, [], [])


def patched(how: str) -> Any:
    """A model one of whose parts holds a function that uses another part, as the name says."""
    model: Any = mlp(16)
    layer, before = model[0], model[0].forward
    if how == "replaced forward":
        layer.forward = lambda x: 2 * before(x)
    elif how == "hook":
        layer.register_forward_hook(lambda _, args, result: result + model[2].weight.sum())
    else:
        layer.scale = lambda x: double(x, layer)
    return model


def double(x: Any, layer: nn.Module) -> Any:
    return x * 2


@pytest.mark.parametrize("how", ["replaced forward", "hook", "attribute"])
def test_functions_that_copies_would_share_with_the_original_are_named(how: str) -> None:
    with pytest.raises(BadInput, match=r"module '0' holds the function .*lambda.*, which uses '.*' of this very model"):
        require_whole(patched(how), "the model")


def test_functions_of_what_they_are_given_are_no_matter() -> None:
    model, seen = mlp(16), list[Any]()
    model[0].register_forward_hook(lambda layer, args, result: seen.append(result))  # type: ignore[operator]
    model[1].act = torch.tanh  # type: ignore[operator]
    require_whole(model, "the model")


def test_tensors_load_into_a_scripted_module(tmp_path: Path) -> None:
    save_file(mlp(16).state_dict(), tmp_path / "x.nwt")
    fresh = torch.jit.script(nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4)))
    x = torch.randn(3, 20)
    assert torch.equal(load_model(fresh, tmp_path / "x.nwt")(x), mlp(16)(x))


def test_a_quantised_file_rounds_inputs_in_a_module_that_was_compiled_before(tmp_path: Path) -> None:
    job = task(mlp(16))
    made = quantize_task(job, tmp_path / "x.nwt", bits=8, tolerance=None, progress=None)
    compiled, x = torch.compile(mlp(16).eval(), backend="eager"), torch.randn(3, 20)
    compiled(x)
    with torch.no_grad():
        assert torch.equal(load_quantized(compiled, tmp_path / "x.nwt")(x), made.module(x))  # type: ignore[arg-type]


def test_a_hook_that_renames_state_is_named(tmp_path: Path) -> None:
    model = mlp(16)
    job = task(model)
    model[0]._register_state_dict_hook(lambda module, state, prefix, _: state.update(w=state.pop("0.weight")))  # type: ignore[operator]
    with pytest.raises(BadInput, match=r"state_dict\(\) of the model has no '0.weight'"):
        run(job, tmp_path / "x.nwt", 3)
