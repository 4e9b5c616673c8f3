"""One case through every verb: right to the bit where it must be, and what became of each tensor.

A failure is an AssertionError that says what is wrong; an exception that is none of ours passes through.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import noworse as nw
from noworse.errors import NoWorseError
from noworse.format import File
from noworse.judge.original import evaluating
from noworse.judge.verify import verify_task
from noworse.model.wrapped import unwrapped, without_prefix
from noworse.representation import Grid, Product, Tied
from noworse.task.task import Task
from tests.conformance.registry import VERBS, Case
from tests.conformance.tasks import fields_of, forward

OPTIONS = nw.Options(iterations=2, warm_up=0, rounding="compensated")
# how often is tried again what is right the first time, to come nearer to a size or to lose a little less
FEW = {"tune.tuner.SETTLE": 5, "propose.grids.layers.ATTEMPTS": 2, "propose.bits.priced.TRIES": 2}
FINE = "0.5%"  # of a tensor's largest: the error that files without data may have
FOLDED = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)  # whose numbers may move into their neighbours
FAR = 1.0  # relative change of outputs by factors: weights that are drawn at random have no low rank
SAME = 1e-5  # relative difference of losses that two runs of one module may have


def outcomes(case: Case, folder: Path) -> dict[str, str]:
    """What each verb makes of a case: how many tensors are compressed, stored and tied, or the sentence it is told."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, number in FEW.items():
            patch.setattr(f"noworse.{name}", number)
        for verb, check in CHECKS.items():
            found[verb] = _outcome(Run(case, folder), verb, check)
    assert tuple(found) == VERBS
    return found


def _outcome(run: Run, verb: str, check: Callable[[Run], str]) -> str:
    expected = run.case.refused.get(verb)
    refusal, told = None, ""
    try:
        told = check(run)
    except NoWorseError as error:
        refusal = str(error)
    assert (refusal is None) == (expected is None), f"{verb}: {refusal or 'went through, but is listed as refused'}"
    assert refusal is None or str(expected) in refusal, f"{verb} is refused by another sentence: {refusal}"
    run.unchanged(verb)
    return told if refusal is None else f"refused: {refusal}"


class Run:
    """A case made anew, its task, and all that must not change."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.given = case.build()
        self.model = unwrapped(self.given.model)
        self.fields = fields_of(self.given)
        self.before = snapshot(self.model)
        self.data = copy.deepcopy(self.batches)
        self.asked = {"tolerance": None, "progress": None}

    @property
    def batches(self) -> list[Tensor]:
        return [tensor for batch in (*self.fields["calib"], *self.fields["verify"]) for tensor in leaves(batch)]

    @cached_property
    def task(self) -> Task:
        """The task, which refuses some models."""
        return Task(**self.fields)

    @property
    def fresh(self) -> nn.Module:
        """The module as a user makes it to load a file into: other weights, of the same class."""
        return self.case.build(seed=7).model

    @property
    def target(self) -> str:
        """About nine bits a weight, and what the rest of a small file takes."""
        state = self.before["state"].values()
        whole = sum(tensor.nbytes for tensor in state)
        codes = sum(1.1 * t.numel() if t.is_floating_point() else t.nbytes for t in state)
        return f"{min(0.9 * whole, 400 + 40 * len(state) + codes):.0f} B"

    def file(self, verb: str) -> Path:
        return self.folder / f"{verb}.nwt"

    def unchanged(self, verb: str) -> None:
        after = snapshot(self.model)
        assert after.keys() == self.before.keys(), f"{verb} changed what the caller's model has"
        changed = [name for name in after if not same(after[name], self.before[name])]
        assert not changed, f"{verb} changed the caller's model: {changed}"
        assert all(map(same, self.batches, self.data)), f"{verb} changed batches"

    def outputs(self, module: nn.Module) -> Tensor:
        with torch.no_grad(), evaluating(module):
            found = [forward(self.given, module, copy.deepcopy(batch)).flatten(1) for batch in self.fields["verify"]]
        return torch.cat([each.flatten() for each in found]).double()

    def moved(self, module: nn.Module) -> float:
        """The change of outputs, as a share of how far they are from their mean."""
        original = self.outputs(self.model)
        return float((self.outputs(module) - original).norm() / (original - original.mean()).norm())

    def judged(self, module: nn.Module, verdict: Any, far: float, verb: str) -> None:
        """The loaded module is that which was judged, and near the original."""
        with evaluating(module):
            loss = torch.cat([self.task.loss(module, copy.deepcopy(batch)) for batch in self.task.verify]).double()
        apart = abs(float(loss.mean()) - verdict.compressed_loss)
        assert apart <= SAME * (1 + abs(verdict.compressed_loss)), f"{verb}: loaded is not what was judged: {apart}"
        moved = self.moved(module)
        assert moved <= far, f"{verb} changed the outputs by {moved:.3g}"


def compress(run: Run) -> str:
    out = run.file("compress")
    report = nw.compress_task(run.task, out, target=run.target, options=OPTIONS, **run.asked)
    told, bitwise = read(out, run.before["state"])
    norms = {name for name, part in run.model.named_modules() if isinstance(part, FOLDED)}
    kept = {name for name in bitwise if name.rpartition(".")[0] not in norms}
    compare_state(run, out, {name for name in kept if not (report.folded and name.endswith("bias"))})
    module = nw.load_model(run.fresh, out)
    run.judged(module, report.verdict, run.given.close, "compress")
    ties(run.model, unwrapped(module), nw.load_file(out))
    again = verify_task(out, run.task)
    assert again.compressed_loss == report.verdict.compressed_loss
    return told


def quantize(run: Run) -> str:
    out = run.file("quantize")
    result = nw.quantize_task(run.task, out, bits=8, **run.asked)
    read(out, run.before["state"], torch.float32)  # which all that is quantised computes in
    module = nw.load_quantized(run.fresh, out)
    run.judged(module, result.verdict, 2 * run.given.close, "quantize")
    ties(run.model, unwrapped(module), nw.load_file(out))
    return f"{len(result.table)} rounded, {len(result.alone)} left alone"


def decompose(run: Run) -> str:
    out = run.file("decompose")
    result = nw.decompose_task(run.task, out, drop=0.05, **run.asked)
    module = nw.load_decomposed(run.fresh, out)
    run.judged(module, result.verdict, FAR, "decompose")
    ties(run.model, unwrapped(module), {})
    opened = {name.rpartition(".")[0] for name in result.chosen}  # attention whose projections became layers
    with File(out) as file:
        left = {name for name in file.names if not name.startswith((*result.chosen, *opened - {""}))}
    compare_state(run, out, left & run.before["state"].keys())
    return f"factors, {len(result.alone)} left alone" if result.chosen else "nothing worth factors"


def model_file(run: Run) -> str:
    """The model's file, lossless and at eight bits."""
    source, exact, small = run.folder / "model.pt", run.folder / "exact.nwt", run.file("file")
    torch.save(run.given.model.state_dict(), source)
    nw.compress_file(source, exact, lossless=True)
    compare_state(run, exact, set(run.before["state"]))
    module = nw.load_model(run.fresh, exact)
    assert torch.equal(run.outputs(module), run.outputs(run.model)), "lossless, but other outputs"
    nw.compress_file(source, small, max_error=FINE)
    told, bitwise = read(small, run.before["state"])
    compare_state(run, small, bitwise)
    moved = run.moved(nw.load_model(run.fresh, small))
    assert moved <= 2 * run.given.close, f"compress_file changed the outputs by {moved:.3g}"
    return told


CHECKS: dict[str, Callable[[Run], str]] = {
    "compress": compress, "quantize": quantize, "decompose": decompose, "file": model_file,
}  # fmt: skip


def read(path: Path, state: dict[str, Tensor], *wider: torch.dtype) -> tuple[str, set[str]]:
    """Read a file in every way, and return what its tensors are, and the names of those that are bit for bit."""
    whole, bitwise, kinds = nw.load_file(path), set(), Counter()
    names = without_prefix({name: name for name in whole}, state)
    assert set(names) == set(state), f"the file has other names: {set(names) ^ set(state)}"
    with nw.safe_open(path, "pt") as torches, nw.safe_open(path, "np") as arrays:
        for name, stored in names.items():
            tensor, array = torches.get_tensor(stored), arrays.get_tensor(stored)
            assert same(tensor, whole[stored]), f"{name}: safe_open and load_file differ"
            values = tensor.float() if tensor.dtype == torch.bfloat16 or "float8" in str(tensor.dtype) else tensor
            assert values.numpy().tobytes() == array.tobytes(), f"{name}: torch and numpy read other values"
            known = {state[name].dtype, *wider}
            assert tensor.dtype in known, f"{name} is {tensor.dtype}, was {state[name].dtype}"
    with File(path) as file:
        for name, stored in names.items():
            made = file.representation(stored)
            kind = "tied" if isinstance(made, Tied) else "rounded" if isinstance(made, (Grid, Product)) else "stored"
            kinds[kind] += 1
            bitwise |= {name} if kind == "stored" else set()
    return ", ".join(f"{kinds[k]} {k}" for k in ("rounded", "stored", "tied") if kinds[k]), bitwise


def compare_state(run: Run, path: Path, names: set[str]) -> None:
    """These tensors of a file are the caller's bit for bit."""
    found, state = without_prefix(nw.load_file(path), run.before["state"]), run.before["state"]
    changed = [name for name in names if not same(found[name], state[name])]
    assert not changed, f"{path.stem}: not bit for bit: {changed}"


def ties(model: nn.Module, loaded: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Names that are one tensor in the caller's model are one in the loaded module, and equal in the file."""
    first: dict[Any, str] = {}
    now = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor) or not tensor.numel() or name not in now:
            continue
        home = first.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)
        if home != name and home in now:
            assert same(now[home], now[name]), f"{home} and {name} are tied, but differ once loaded"
            assert now[home].data_ptr() == now[name].data_ptr(), f"{home} and {name} are not tied once loaded"
            assert not tensors or same(tensors[home], tensors[name]), f"{home} and {name} are tied, the file's differ"


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that no verb may change."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    state = {n: t for n, t in model.state_dict().items() if isinstance(t, Tensor)}
    return {
        "state": {name: tensor.detach().clone() for name, tensor in state.items()},
        "buffers": {name: b.detach().clone() for name, b in model.named_buffers()},
        "places": {name: (id(p), p.data_ptr(), p.requires_grad, p.grad is None) for name, p in parameters.items()},
        "modes": {name: (id(m), m.training, hooks(m)) for name, m in model.named_modules()},
    }


def hooks(module: nn.Module) -> tuple[int, ...]:
    return len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)


def same(a: Any, b: Any) -> bool:
    """Equal, tensors bit for bit."""
    if isinstance(a, Tensor):
        fits = isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape
        return fits and bits(a) == bits(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    return bool(a == b)


def bits(tensor: Tensor) -> bytes:
    tensor = tensor.int_repr() if tensor.is_quantized else tensor
    flat = torch.zeros(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().flatten())
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def leaves(batch: Any) -> list[Tensor]:
    """The tensors of a batch, however nested."""
    if isinstance(batch, Tensor):
        return [batch]
    values = batch.values() if hasattr(batch, "values") else batch
    return [tensor for value in values for tensor in leaves(value)]
