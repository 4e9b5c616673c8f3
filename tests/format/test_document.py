"""docs/format.md is true: a reader written from it alone reads what this package writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from attacks.forge import small_model
from noworse.format import CODERS, pack
from noworse.format.index import DICTIONARY
from noworse.representation import Grid, Raw, Tied
from tests.format import reference_file
from tests.format.nwt_files import models


def agree(items, coder="fast"):
    found, made, verdict = reference_file.read(pack(items, {"seed": 1}, {"samples": 3}, coder))
    assert (made, verdict) == ({"seed": 1}, {"samples": 3})
    assert list(found) == list(items)
    for name, item in items.items():
        source = items[item.target] if isinstance(item, Tied) else item
        dtype, shape, data = found[name]
        assert (dtype, shape) == (item.dtype, item.shape)
        assert data == source.storage().tobytes()


def test_the_document_shows_the_dictionary():
    assert reference_file.dictionary() == DICTIONARY


@pytest.mark.parametrize("coder", CODERS)
def test_a_small_model_reads_alike(coder):
    agree(small_model(), coder)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(models())
def test_any_model_reads_alike(items):
    agree(items)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(models(most=700))
def test_any_context_coded_model_reads_alike(items):
    agree(items, "max")


@pytest.mark.slow
def test_several_blocks_read_alike():
    rng = np.random.default_rng(0)
    count = (1 << 18) + 70000
    codes = rng.laplace(scale=2, size=count).astype(np.int32)
    noise = rng.normal(size=70000).astype(np.float32)
    agree({
        "codes": Grid(codes, 30000, 40, (count,), "bfloat16"),
        "noise": Raw(noise.tobytes(), (70000,), "float32"),
    })  # fmt: skip


def test_the_document_has_at_most_six_pages():
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    assert len(text) < 6 * 3200
    assert max(map(len, text.splitlines())) < 240
