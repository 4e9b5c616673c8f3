from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import BadInput
from noworse.io import load_file
from noworse.jobs.compress import compress, compress_task
from noworse.tune.options import PRESETS, Options, choose
from tests.tiny import ConvNet, loss, mlp, task


@given(st.integers(0, 2**40), st.integers(1, 10**6), st.floats(1e-6, 1), st.booleans())
def test_round_trip(seed: int, iterations: int, rate: float, term: bool) -> None:
    options = Options(seed=seed, iterations=iterations, lr_weights=rate, entropy_term=term)
    assert Options.from_json(options.to_json()) == options


def test_lists_and_limits_round_trip() -> None:
    options = Options(features=("layer*", "fc"), layer_bits={"head.*": (2, 8)}, label_weight=0.5)
    assert Options.from_json(options.to_json()) == options
    assert options.layer_bits == {"head.*": (2.0, 8.0)}
    plain = {"features": ["layer*", "fc"], "layer_bits": {"head.*": [2.0, 8.0]}, "label_weight": 0.5}
    assert options.changed() == plain
    assert Options.from_json('{"features": "auto"}').features == ("auto",)


def test_changed_names_what_differs() -> None:
    assert Options().changed() == {}
    assert Options(seed=3, zone=0.7).changed() == {"seed": 3, "zone": 0.7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "JSON object, found list"),
        ("{", "not JSON"),
        ('{"sede": 1}', "unknown option 'sede': did you mean 'seed'"),
        ('{"frozen": 1}', "unknown option 'frozen': expected one of batch, .*, zone"),
        ('{"iterations": true}', "iterations must be of type int, found True"),
        ('{"looks": 0}', "looks must be positive and finite, found 0"),
        ('{"confidence": 1}', r"confidence must lie in \(0.5, 1\), found 1"),
        ('{"precision": "fp8"}', "precision must be one of fp32, bf16, fp16, found 'fp8'"),
        ('{"seed": "1"}', "seed must be of type int, found '1'"),
        ('{"iterations": -1}', "iterations must not be negative"),
        ('{"temperature": 0}', "temperature must be positive and finite, found 0"),
        ('{"damping": Infinity}', "damping must be positive and finite, found inf"),
        ('{"zone": 9}', r"zone must lie in \[0.4, 3.9\], found 9"),
        ('{"coder": "best"}', "coder must be one of auto, fast, max, found 'best'"),
        ('{"distill": "l1"}', "distill must be one of task, kl, mse, cosine, found 'l1'"),
        ('{"label_weight": -1}', "label_weight must be a finite number >= 0, found -1"),
        ('{"feature_weight": NaN}', "feature_weight must be a finite number"),
        ('{"distill_weight": 0}', "nothing to tune for"),
        ('{"distill_weight": 0, "features": ["a"], "feature_weight": 0}', "nothing to tune for"),
        ('{"features": [1]}', "features must hold names of modules"),
        ('{"features": 1}', "features must be of type tuple, found 1"),
        ('{"layer_bits": [1]}', "layer_bits must be of type dict"),
        ('{"layer_bits": {"a": 1}}', r"layer_bits\['a'\] is 1: expected two numbers"),
        ('{"layer_bits": {"a": [1, 2, 3]}}', "expected two numbers"),
        ('{"layer_bits": {"a": ["x", 2]}}', "expected two numbers"),
        ('{"layer_bits": {"a": [3, 2]}}', "0 <= least <= most"),
        ('{"layer_bits": {"a": [NaN, 2]}}', "0 <= least <= most"),
        ('{"layer_bits": {"a": [12, 13]}}', "least <= 11"),
        ('{"version": 99}', "version 99.*expected version"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Options.from_json(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"iterations": "5"}, "option iterations must be of type int, found '5'"),
        ({"iterations": 5.0}, "option iterations must be of type int, found 5.0"),
        ({"bias_correction": 1}, "option bias_correction must be of type bool, found 1"),
        ({"coder": None}, "option coder must be of type str, found None"),
        ({"iters": 5}, "unknown option 'iters': did you mean 'iterations'"),
        ({"layer_bits": {"a": ("x", 1)}}, "expected two numbers"),
    ],
)
def test_the_same_is_refused_when_built_in_python(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Options(**given)
    with pytest.raises(BadInput, match=message):
        replace(Options(), **given)


def test_options_are_given_by_name() -> None:
    with pytest.raises(BadInput, match=r"options were given \(5,\): expected them by name"):
        Options(5)


def test_numbers_of_other_kinds_are_numbers() -> None:
    options = Options(iterations=np.int64(5), lr_weights=1, features="fc")  # type: ignore[arg-type]
    assert (options.iterations, options.lr_weights, options.features) == (5, 1.0, ("fc",))
    assert type(options.iterations) is int
    assert type(options.lr_weights) is float
    assert copy.deepcopy(options) == pickle.loads(pickle.dumps(options)) == options


def test_options_where_given_else_those_of_the_preset() -> None:
    given = Options(seed=7)
    assert choose(given, "default") is given
    assert choose(None, "default") == Options()
    assert choose(None, "fast") == Options(**PRESETS["fast"])


@pytest.mark.parametrize(
    ("options", "preset", "message"),
    [
        (None, "faster", "unknown preset 'faster': expected one of default, fast"),
        (Options(), "faster", "unknown preset 'faster'"),
        (Options(), "fast", "options and preset 'fast' were given"),
    ],
)
def test_refused_presets(options: Options | None, preset: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        choose(options, preset)


@pytest.mark.parametrize("target", [4, 7])
def test_fast_lands_without_training(tmp_path: Path, target: float) -> None:
    job = task(ConvNet(), 1, 12, 12)
    report = compress_task(job, tmp_path / "x.nwt", target=target, tolerance=None, preset="fast", progress=None)
    size = report.original_size / target
    assert 0.99 * size - 24 <= report.size <= size
    assert report.spent["net"] == 0.0


def test_fast_through_compress_repeats_itself(tmp_path: Path) -> None:
    job = task(mlp())
    found = []
    for name in ("a.nwt", "b.nwt"):
        arguments = {"loss": loss, "calib": job.calib, "verify": job.verify, "out": tmp_path / name}
        compress(job.model, **arguments, target=5, tolerance=None, preset="fast", progress=None)  # type: ignore[arg-type]
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1]
    weights = load_file(tmp_path / "a.nwt")
    assert not torch.equal(weights["0.weight"], job.model.state_dict()["0.weight"])
