"""Named settings: one ``Options`` for each way to compress."""

from __future__ import annotations

from noworse.errors import BadInput
from noworse.tune.options import Options

PRESETS: dict[str, Options] = {
    "default": Options(),
    # rounding alone, without training: seconds; compensation may move weights further where no tuning follows
    "fast": Options(iterations=0, bias_correction=True, damping=0.03),
    # the official code of L², as a yardstick (papers/l2): its schedule with its start, its rate estimate and losses,
    # and, as its coder has, a static table of frequencies for each tensor
    "paper": Options(
        iterations=3900,
        batch=16,
        rounding="nearest",
        distill="mse",
        features=("auto",),
        coder="fast",
        plugins={"tuner": "alternating", "rate": "official"},
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
