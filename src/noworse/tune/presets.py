"""Named settings: one ``Options`` for each way to compress."""

from __future__ import annotations

from typing import Any

from noworse.errors import BadInput
from noworse.tune.options import Options

# the official code of L², as a yardstick: its schedule, start, rate estimate and losses, and static tables of codes
_L2: dict[str, Any] = {"distill": "mse", "features": ("auto",), "plugins": {"tuner": "alternating", "rate": "official"}}
PRESETS: dict[str, Options] = {
    "default": Options(),
    # rounding alone, without training: seconds; compensation may move weights further where no tuning follows
    "fast": Options(iterations=0, bias_correction=True, damping=0.03),
    "paper": Options(iterations=3900, batch=16, rounding="nearest", coder="fast", **_L2),
}


def choose(options: Options | None, preset: str) -> Options:
    """Return ``options`` where given, else those of ``preset``; BadInput for an unknown preset, or for both."""
    if preset not in PRESETS:
        raise BadInput(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}")
    if options is not None and preset != "default":
        raise BadInput(f"options and preset {preset!r} were given: expected one of them")
    return options or PRESETS[preset]
