"""A GRU encoder-decoder (zoo/vowels.py) in files, beside per-channel int4 with zstd, and rounded alone beside tuned.

"int4" rounds every matrix to integers from -8 to 7, with a step for each row that errs least, and keeps the rest as
float16; codes go through zstd 22, each in a byte or two in one, whichever is smaller. Ours is rounded alone (preset
``fast``) to a few ratios: of those that lose no more than int4 on the development split the largest is taken, and
what counts is measured on the test split, from decoded files. KL is to the original's outputs, in nats per character.
"before" rounds recurrent weights to the nearest, as was done before moments of their inputs were taken.
Needs zstandard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import Row, Run, Suite, main

RATIO, EQUAL = 10.0, (13.5, 15.0)
SMALLER, NEAR = 0.75, 1.3
SEEDS = (0, 1, 2)
SHRINKS = [1 - 0.02 * k for k in range(30)]
SPLITS = ("development", "verify")


@torch.no_grad()
def outcome(model: nn.Module) -> dict[str, float]:
    """Loss difference and KL of a model of the zoo's class on both splits."""
    from zoo import vowels

    found = {}
    for split in SPLITS:
        task = vowels.build(split)
        differences, divergences = [], []
        for batch in task.verify:
            given, original = (vowels.forward(m, batch).log_softmax(-1) for m in (model, task.model))
            divergences.append(F.kl_div(given, original, log_target=True, reduction="none").sum(-1).mean(1))
            gained = (original - given).gather(2, batch[2][..., None])
            differences.append(gained.mean((1, 2)) / math.log(2))
        found[f"{split} KL"] = float(torch.cat(divergences).double().mean())
        found[f"{split} loss"] = float(torch.cat(differences).double().mean())
    return found


def int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (R, I) int8 from -8 to 7 of a matrix, and the step of each row that errs least, float16."""
    whole = weight.abs().amax(1, keepdim=True) / 7
    best, least = whole, torch.full_like(whole, torch.inf)
    for share in SHRINKS:
        step = (share * whole).half().float().clamp_(min=1e-7)
        error = ((weight / step).round().clamp_(-8, 7) * step - weight).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return (weight / best).round().clamp_(-8, 7).to(torch.int8), best.half()


@torch.no_grad()
def run_int4() -> dict[str, float]:
    """Bytes and outcome of the net in int4."""
    import zstandard

    from zoo import vowels

    model = vowels.vowels().model
    codes, rest = [], []
    for tensor in model.state_dict().values():
        if tensor.dim() == 2:
            found, steps = int4(tensor)
            codes.append(found.flatten())
            rest.append(steps.flatten())
            tensor.copy_(found * steps.float())
        else:
            rest.append(tensor.half())
            tensor.copy_(tensor.half())
    flat = torch.cat(codes)
    two = (flat[: len(flat) // 2 * 2 : 2] & 15) | (flat[1::2] << 4)
    press = zstandard.ZstdCompressor(level=22)
    smallest = min(len(press.compress(each.numpy().tobytes())) for each in (flat, two))
    others = len(press.compress(torch.cat(rest).numpy().tobytes()))
    return {"size": smallest + others, **outcome(model)}


@contextmanager
def closed(module: nn.Module) -> Iterator[dict[str, nn.Module]]:
    """Recurrent layers stay one call, of whose weights no moments are known."""
    yield dict(module.named_modules())


def run_ours(preset: str, ratio: float, seed: int, before: bool, quick: bool, folder: str) -> dict[str, Any]:
    """Bytes and outcome of a file of ours."""
    import noworse as nw
    from noworse.survey import moments
    from noworse.tune.options import choose
    from zoo import vowels

    if before:
        moments.opened = closed  # type: ignore[attr-defined]
    base = choose(None, preset)
    options = replace(base, iterations=5) if quick and base.iterations else base
    path = Path(folder) / f"{preset}_{ratio:g}_{seed}{'_before' * before}.nwt"
    task = vowels.dev_task()
    report = nw.compress_task(task, path, target=ratio, tolerance=None, options=options, seed=seed, progress=None)
    loaded = nw.load_model(vowels.Restorer(), path).eval()
    return {"size": path.stat().st_size, "seconds": sum(report.spent.values()), **outcome(loaded)}


def ours(run: Run, preset: str, ratio: float, seed: int = 0, before: bool = False) -> dict[str, Any]:
    """The same, in a process of its own."""
    key = f"{preset} {ratio:g} {seed}{' before' * before}"
    result: dict[str, Any] = run.case(key, run_ours, preset, ratio, seed, before, run.quick, str(run.folder))
    return result


def original_bytes() -> int:
    """Bytes of the net in float32."""
    from zoo import vowels

    return 4 * sum(p.numel() for p in vowels.Restorer().parameters())


def equal(run: Run) -> Iterator[Row]:
    """Our bytes against those of int4, where ours loses no more."""
    base = run.case("int4", run_int4)
    fits = [
        found
        for ratio in run.few(EQUAL)
        if (found := ours(run, "fast", ratio))["development KL"] <= base["development KL"]
    ]
    yield Row("int4 and zstd: file", base["size"], "bytes")
    yield Row("int4 and zstd: ratio", original_bytes() / base["size"], "x")
    yield Row("int4 and zstd: KL", base["verify KL"], "nats")
    yield Row("int4 and zstd: loss difference", base["verify loss"], "bits/character")
    if fits:
        best = min(fits, key=lambda found: int(found["size"]))
        yield Row("ours at equal loss: file", best["size"], "bytes")
        yield Row("ours at equal loss: ratio", original_bytes() / best["size"], "x")
        yield Row("ours at equal loss: KL", best["verify KL"], "nats", f"<= {base['verify KL']:.6f}")
        yield Row("ours at equal loss: loss difference", best["verify loss"], "bits/character")
        yield Row("ours at equal loss: bytes / int4's", best["size"] / base["size"], "x", f"<= {SMALLER}")


def rounded(run: Run) -> Iterator[Row]:
    """Rounding alone at 10x, and what it was without moments of recurrent layers."""
    after, before = ours(run, "fast", RATIO), ours(run, "fast", RATIO, before=True)
    for name, found in (("fast at 10", after), ("fast at 10, before", before)):
        yield Row(f"{name}: KL", found["verify KL"], "nats")
        yield Row(f"{name}: loss difference", found["verify loss"], "bits/character")
    yield Row("fast at 10: KL / that of before", after["verify KL"] / before["verify KL"], "x", "<= 1")


def tuned(seed: int, run: Run) -> Iterator[Row]:
    """Tuning at 10x, and how much more rounding alone loses."""
    alone, found = ours(run, "fast", RATIO, seed), ours(run, "default", RATIO, seed)
    yield Row(f"tuned at 10, seed {seed}: KL", found["verify KL"], "nats")
    yield Row(f"tuned at 10, seed {seed}: loss difference", found["verify loss"], "bits/character")
    yield Row(f"fast / tuned at 10, seed {seed}: KL", alone["verify KL"] / found["verify KL"], "x", f"<= {NEAR}")


TUNED = {f"tuned, seed {seed}": partial(tuned, seed) for seed in SEEDS}
SECTIONS = {"equal loss": equal, "rounded": rounded, **TUNED}
SUITE = Suite("recurrent", __doc__, SECTIONS, quick=("equal loss",))

if __name__ == "__main__":
    main(SUITE)
