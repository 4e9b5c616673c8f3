"""What a tuner keeps in a checkpoint, and how it goes on from one to the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noworse.model.device import random_states, set_random_states
from noworse.run.resume import State, alike, damaged
from noworse.tune.control import RateController

if TYPE_CHECKING:
    from noworse.tune.tuner import Tuner


def _state(tuner: Tuner, position: dict[str, Any]) -> State:
    """All tensors that an iteration depends on, besides the sampler's, and which of them are parts of a rank's own."""
    tensors = {f"grid {k}": tensor for k, tensor in enumerate(tuner.grids.tensors)} | tuner.beside
    parted = {name for name, tensor in tensors.items() if any(tensor is part for part in tuner.parted)}
    for j, optimiser in enumerate(tuner.adams):
        for k, leaf in enumerate(optimiser.leaves()):
            moments = {f"{name} {j}.{k}": moment for name, moment in optimiser.state.get(leaf, {}).items()}
            tensors |= moments
            if any(leaf is part for part in tuner.parted):
                parted |= moments.keys()
    return State(tensors | random_states(tuner.grids.device), position, parted)


def checkpoint(tuner: Tuner, at: dict[str, Any]) -> State:
    """Return the tensors, and the numbers by name, that are needed to go on from a position ``at`` in a stage."""
    numbers = {"controller": vars(tuner.controller), "scaler": vars(tuner.scaler), "seconds": tuner.seconds}
    peaks = [group["peak"] for group in tuner.optimiser.param_groups]
    moments = [len(optimiser.state) > 0 for optimiser in tuner.adams]
    counts = {"drawn": tuner.drawn, "side_bits": tuner.side_bits, "peaks": peaks, "moments": moments}
    return _state(tuner, {**at, **numbers, **counts})


def resume(tuner: Tuner) -> tuple[int, float, float]:
    """Bring a tuner to where its work goes on, and return iteration, bits at the start of the stage, running loss."""
    position = tuner.hooks.work.position
    if position is None:
        return 0, tuner.bits(), 0.0
    now = {"stage": "", "iteration": 0, "start": 0.0, "running": 0.0}
    if not alike(position, checkpoint(tuner, now).position):
        raise damaged(tuner.hooks.work.path)
    tuner.controller = RateController(1.0)
    for name in ("controller", "scaler"):
        vars(getattr(tuner, name)).update(position[name])
    tuner.seconds.update(position["seconds"])
    tuner.side_bits, tuner.drawn = position["side_bits"], position["drawn"]
    tuner.batches = tuner.sampler.after(tuner.drawn)
    for group, peak in zip(tuner.optimiser.param_groups, position["peaks"], strict=True):
        group["peak"] = peak
    for optimiser, moments in zip(tuner.adams, position["moments"], strict=True):
        for leaf in optimiser.leaves() if moments else ():
            optimiser.begin(leaf)
    state = _state(tuner, position)
    tuner.hooks.work.read_into(state)
    set_random_states(tuner.grids.device, dict(state.tensors))
    tuner.grids.quantise(tuner.values)
    return position["iteration"], position["start"], position["running"]
