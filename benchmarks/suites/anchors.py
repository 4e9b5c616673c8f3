"""Bytes against other compressors at a mean loss increase of 0.01 nats, from the stored rows of ``benchmarks.l2``.

Of every net counts its smallest file whose upper bound stays within 0.01 nats. The others' ratios were measured before
this project began, on checkpoints of the same nets trained for minutes (the ViT: a smaller one): the largest ratio
whose mean difference is within 0.01 nats, of NNCodec 2.1.3 (the better of its scalar and its trellis quantiser) and of
the published quantiser of CERWU (Conzel et al.; the shorter of an order-0 and a context-coded ideal length). These are
ratios of ratios, not files of one model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.harness import Row, Suite, main
from benchmarks.harness.row import stored, values_of
from benchmarks.suites.l2 import measured_cases

LIMIT = 0.01  # nats


@dataclass(frozen=True)
class Anchor:
    """A compressor's ratio on a net at the limit, and the share of its bytes that ours may take."""

    name: str
    ratio: float
    share: float


ANCHORS = {
    "resnet20": (Anchor("NNCodec", 13.1, 0.5), Anchor("CERWU", 16.2, 0.65)),
    "lenet5": (Anchor("NNCodec", 15.8, 0.5), Anchor("CERWU", 32.5, 0.65)),
    "vit_tiny": (Anchor("NNCodec", 9.2, 0.5), Anchor("CERWU", 13.5, 0.85)),
}


def best_ratio(values: Mapping[str, float], net: str) -> float:
    """The largest ratio of the net's cases whose upper bound keeps the limit; 0 where none does."""
    cases = [case for case in measured_cases(values) if case.split(" ")[0] == net]
    return max((values[f"{case}: ratio"] for case in cases if values[f"{case}: its upper bound"] <= LIMIT), default=0.0)


def rows_of(net: str, values: Mapping[str, float]) -> Iterator[Row]:
    """The rows of one net."""
    ratio = best_ratio(values, net)
    yield Row(f"{net}: largest ratio within {LIMIT} nats", ratio, "x")
    for anchor in ANCHORS[net] if ratio else ():
        yield Row(f"{net}: bytes / {anchor.name}'s", anchor.ratio / ratio, "x", f"<= {anchor.share}")


def section(net: str, run: object) -> Iterator[Row]:
    """The same from what is stored."""
    return rows_of(net, values_of(stored("l2")))


SUITE = Suite("anchors", __doc__, {net: partial(section, net) for net in ANCHORS})

if __name__ == "__main__":
    main(SUITE)
