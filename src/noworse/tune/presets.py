"""Named settings: one ``Options`` for each way to compress."""

from __future__ import annotations

from noworse.errors import BadInput
from noworse.tune.options import Options

PRESETS: dict[str, Options] = {
    "default": Options(),
    # rounding alone, without training: seconds; compensation may move weights further where no tuning follows
    "fast": Options(iterations=0, bias_correction=True, damping=0.03),
    # the official code of L², as a yardstick: its schedule, rate estimate, losses and start (papers/l2/alternate.py),
    # and, as its coder has, a static table of frequencies for each tensor
    "paper": Options(
        schedule="alternating",
        iterations=3900,
        batch=16,
        rounding="nearest",
        rate="official",
        resolution=64,
        distill="mse",
        features=("auto",),
        coder="fast",
    ),
}


def choose(options: Options | None, preset: str) -> Options:
    """``options`` where they are given, else those of ``preset``; BadInput for an unknown preset, or for both."""
    if preset not in PRESETS:
        raise BadInput(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}")
    if options is None:
        return PRESETS[preset]
    if preset != "default":
        raise BadInput(f"options and preset {preset!r} were given: expected one of them")
    return options
