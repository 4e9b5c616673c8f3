"""The advanced settings of a compression, in one frozen, versioned dataclass that round-trips through JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from noworse.errors import BadInput
from noworse.format import CODERS
from noworse.papers.l2.transforms import TRANSFORMS
from noworse.rate.kernels import Relaxation
from noworse.run.precision import DTYPES

VERSION = 1
SCHEDULES = ("joint", "alternating")
RATES = ("soft", "official", "official_whole")
ROUNDINGS = ("auto", "compensated", "nearest")
METHODS = ("grids", "auto")
ALLOCATIONS = ("slope", "measured")
PLAIN_TRANSFORMS = ("deadzone", "uniform")
DISTILLATIONS = ("task", "kl", "mse", "cosine")
MOST_BITS = 11.0  # of a code


@dataclass(frozen=True)
class Options:
    """Settings of ``noworse.compress``; the defaults were chosen on held-out training images of the zoo.

    Learning rates of weights are in code units (steps of the grid at the start), those of steps and zones in log space.
    They are those after compensated rounding; from nearest rounding, which is further from the end, tuning multiplies
    them by 3.5, 30 and 20.
    """

    seed: int = 0
    iterations: int = 600  # 0: no training, the file holds what the start rounds to
    batch: int = 32
    lr_weights: float = 0.002
    lr_steps: float = 0.0003
    lr_zones: float = 0.001
    warm_up: int = 20
    ramp: float = 0.2  # share of the iterations in which the budget falls from its start to the target
    start: float = 1.0  # bits at the start, as a multiple of the target
    schedule: str = "joint"  # or "alternating", that of the official code of L² (papers/l2), by which lr_* are set
    rounding: str = "auto"  # at the start: "compensated" (OBS), "nearest", or whichever loses less on calib
    allocation: str = "slope"  # of steps at the start: equal "slope", or "measured" losses of each and in pairs
    methods: str = "grids"  # how tensors are written: "grids", or "auto": products of two where those lose less
    transform: str = "deadzone"  # of weights to codes: "uniform", "log", "exp", "multiscale" (papers/l2/transforms)
    per_channel: bool = False  # whether wide rows (output channels) have steps of their own
    damping: float = 0.2  # of compensated rounding, as a share of the mean input energy: more moves weights less
    rate_rounding: float = 0.0  # price of a bit in compensated rounding; 1: what one saves at high rates
    bias_correction: bool = False  # at the end biases take back what rounding moved the means of outputs by
    frozen: int = 0  # further iterations at the end, with codes fixed: steps, zones, biases and norms are tuned
    zone: float = 0.5  # half width of the zero bin of weight tensors at the start, in steps (1/2: uniform)
    delta: float = 0.25  # half width of the counter's kernel, in code units
    kernel: str = "cos"  # of the counter: "cos", "linear", "triangle"
    resolution: int = 0  # where not 0, the kernel's half width is the range of a tensor's codes divided by this
    rate: str = "soft"  # what gives the rate's gradient: "soft" entropy, L²'s estimate "official", or "official_whole"
    rate_on_weights: bool = False  # whether the rate term also pulls on the weights, not only on steps and zones
    entropy_term: bool = True  # False: steps and zones do not see the rate, the size is held by scaling all steps alike
    distill: str = "task"  # kind of output distillation: the task's, or "kl", "mse", "cosine"
    temperature: float = 2.0  # of "kl" distillation while tuning: logits are divided by it
    distill_weight: float = 1.0  # of output distillation in what tuning lowers
    features: tuple[str, ...] = ()  # also distilled: outputs of modules, ("auto",) or patterns of names
    feature_weight: float = 1.0  # of features, where there are any
    label_weight: float = 0.0  # of the task's own loss on calib, which then needs labels
    layer_bits: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # pattern: least, most bits per weight
    development: float = 0.2  # share of calib kept from tuning, where tolerance mode predicts the loss
    confidence: float = 0.95
    coder: str = "auto"  # "max": smaller, slower to read; "fast"; "auto": "max" for less than 2**20 weights on grids
    looks: int = 3  # most verifications in tolerance mode; each further look costs significance
    precision: str = "fp32"  # of the net's passes in tuning: "bf16" or "fp16" where the device has them
    checkpointing: bool = False  # keep the inputs of blocks alone for backward, and compute the rest a second time
    parallel: bool = True  # share the work with the other processes of torchrun or of torch.distributed
    version: int = VERSION

    def __post_init__(self) -> None:
        positive = ("batch", "lr_weights", "lr_steps", "lr_zones", "start", "zone", "damping", "delta", "temperature")
        for name in (*positive, "looks"):
            if not 0 < getattr(self, name) < float("inf"):
                raise BadInput(f"option {name} must be positive and finite, found {getattr(self, name)!r}")
        for name, low, high in (("ramp", 0.0, 1.0), ("development", 0.0, 0.9), ("zone", 0.4, 3.9)):
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"option {name} must lie in [{low}, {high}], found {getattr(self, name)!r}")
        if self.rounding not in ROUNDINGS:
            raise BadInput(f"option rounding must be one of {', '.join(ROUNDINGS)}, found {self.rounding!r}")
        self._check_methods()
        self._check_transform()
        if not 0 <= self.rate_rounding < float("inf"):
            raise BadInput(f"option rate_rounding must be a finite number >= 0, found {self.rate_rounding!r}")
        if self.precision not in DTYPES:
            raise BadInput(f"option precision must be one of {', '.join(DTYPES)}, found {self.precision!r}")
        if not 0.5 < self.confidence < 1:
            raise BadInput(f"option confidence must lie in (0.5, 1), found {self.confidence!r}")
        if self.distill not in DISTILLATIONS:
            raise BadInput(f"option distill must be one of {', '.join(DISTILLATIONS)}, found {self.distill!r}")
        self._check_weights()
        self._check_layer_bits()
        if self.coder not in CODERS:
            raise BadInput(f"option coder must be one of {', '.join(CODERS)}, found {self.coder!r}")
        for name in ("iterations", "warm_up", "frozen"):
            if getattr(self, name) < 0:
                raise BadInput(f"option {name} must not be negative, found {getattr(self, name)}")
        if self.version != VERSION:
            raise BadInput(f"options of version {self.version} cannot be used: expected version {VERSION}")

    def _check_weights(self) -> None:
        weights = {name: getattr(self, name) for name in ("distill_weight", "feature_weight", "label_weight")}
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise BadInput(f"option {name} must be a finite number >= 0, found {weight!r}")
        if not (self.distill_weight or self.label_weight or (self.features and self.feature_weight)):
            raise BadInput("options leave nothing to tune for: expected distill_weight, features or label_weight")
        if any(not isinstance(pattern, str) for pattern in self.features):
            raise BadInput(f"option features must hold names of modules, found {self.features!r}")

    def _check_layer_bits(self) -> None:
        for pattern, limits in self.layer_bits.items():
            try:
                low, high = (float(bits) for bits in limits)
            except (TypeError, ValueError) as error:
                raise BadInput(f"option layer_bits[{pattern!r}] is {limits!r}: expected two numbers") from error
            if not 0 <= low <= high or low > MOST_BITS:
                expected = f"least and most bits per weight, 0 <= least <= most, least <= {MOST_BITS:g}"
                raise BadInput(f"option layer_bits[{pattern!r}] is {limits!r}: expected {expected}")
        plain = {pattern: (float(low), float(high)) for pattern, (low, high) in self.layer_bits.items()}
        object.__setattr__(self, "layer_bits", plain)

    def _check_methods(self) -> None:
        if self.methods not in METHODS:
            raise BadInput(f"option methods must be one of {', '.join(METHODS)}, found {self.methods!r}")
        if self.allocation not in ALLOCATIONS:
            raise BadInput(f"option allocation must be one of {', '.join(ALLOCATIONS)}, found {self.allocation!r}")
        if self.per_channel or self.transform not in PLAIN_TRANSFORMS:
            found = f"transform {self.transform!r}" + (" per channel" if self.per_channel else "")
            if self.methods == "auto":
                raise BadInput(f"option methods 'auto' was given with {found}: expected a plain grid, as factors have")
            if self.allocation == "measured":
                raise BadInput(f"option allocation 'measured' was given with {found}: expected a plain grid")

    def _check_transform(self) -> None:
        for name, known in (("transform", TRANSFORMS), ("rate", RATES), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise BadInput(f"option {name} must be one of {', '.join(known)}, found {getattr(self, name)!r}")
        plain = self.transform in PLAIN_TRANSFORMS and not self.per_channel
        if (self.frozen or self.bias_correction) and not plain:
            name = "frozen" if self.frozen else "bias_correction"
            raise BadInput(f"option {name} needs transform {' or '.join(PLAIN_TRANSFORMS)}, not per_channel")
        if self.rounding == "compensated" and TRANSFORMS[self.transform].curve != "linear":
            raise BadInput(f"option rounding is 'compensated', which a {self.transform!r} transform cannot have")
        straight = self.transform == "deadzone" and not self.per_channel
        if self.schedule == "alternating" and not straight:
            raise BadInput("option schedule is 'alternating': expected transform 'deadzone', not per_channel")
        _ = self.relaxation

    @property
    def relaxation(self) -> Relaxation:
        """The counter's kernel and its width; BadInput where they make no sense."""
        return Relaxation(self.kernel, self.delta, self.resolution)

    def to_json(self) -> str:
        """All settings as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        """The inverse of ``to_json``; raises BadInput for an unknown name or a value of the wrong type."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"options are not JSON: {error}") from error
        if not isinstance(values, dict):
            raise BadInput(f"options must be a JSON object, found {type(values).__name__}")
        return cls(**{name: _typed(name, value) for name, value in values.items()})

    def changed(self) -> dict[str, Any]:
        """The settings that differ from the defaults, as JSON holds them."""
        default = Options()
        plain = json.loads(self.to_json())
        return {name: plain[name] for name, value in asdict(self).items() if value != getattr(default, name)}


def _typed(name: str, value: Any) -> Any:
    default = Options()
    kinds = {each.name: type(getattr(default, each.name)) for each in fields(Options)}
    if name not in kinds:
        raise BadInput(f"unknown option {name!r}: expected one of {', '.join(sorted(kinds))}")
    kind = kinds[name]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, (str, list)):  # one name stands for a list of it
        return (value,) if isinstance(value, str) else tuple(value)
    if type(value) is not kind:
        raise BadInput(f"option {name} must be of type {kind.__name__}, found {value!r}")
    return value
