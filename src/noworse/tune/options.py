"""The advanced settings of a compression, in one frozen, versioned dataclass that JSON holds; and presets of them."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from inspect import Signature, signature
from typing import Any, ClassVar

from noworse.errors import BadInput
from noworse.format import CODERS
from noworse.run.precision import DTYPES
from noworse.task.distances import DISTANCES
from noworse.tune import seams

VERSION = 1
MOST_BITS = 11.0  # of a code
CHOICES: dict[str, Collection[str]] = {
    "rounding": ("auto", "compensated", "nearest"),
    "methods": ("grids", "auto"),
    "precision": DTYPES,
    "coder": CODERS,
}
POSITIVE = ("batch", "lr_weights", "lr_steps", "lr_zones", "start", "damping", "temperature", "looks")  # and finite
WEIGHTS = ("distill_weight", "feature_weight", "label_weight")
RANGES = {"ramp": (0.0, 1.0), "development": (0.0, 0.9), "zone": (0.4, 3.9)}
STRAIGHT = {"methods": "auto", "rounding": "compensated", "bias_correction": True}  # what curves cannot have


@dataclass(frozen=True)
class Options:
    """Settings of ``noworse.compress``; the defaults were chosen on held-out training images of the zoo.

    Learning rates of weights are in code units (steps of the grid at the start), those of steps and zones in log space.
    They are those after compensated rounding; from nearest rounding, which is further from the end, tuning multiplies
    them by 3.5, 30 and 20. BadInput for a name, a type or a value that cannot be used.
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
    rounding: str = "auto"  # at the start: "compensated" (OBS), "nearest", or whichever loses less on calib
    methods: str = "grids"  # how tensors are written: "grids", or "auto": products of two where those lose less
    damping: float = 0.2  # of compensated rounding, as a share of the mean input energy: more moves weights less
    bias_correction: bool = False  # at the end biases take back what rounding moved the means of outputs by
    zone: float = 0.5  # half width of the zero bin of weight tensors at the start, in steps (1/2: uniform)
    entropy_term: bool = True  # False: steps and zones do not see the rate, the size is held by scaling all steps alike
    distill: str = "task"  # kind of output distillation: the task's, or another one of task/distances.py
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
    plugins: Mapping[str, Any] = field(default_factory=dict)  # kind: name, what replaces standard parts (tune/seams.py)
    version: int = VERSION
    __signature__: ClassVar[Signature]  # what is shown of the class: the options, not what __new__ takes

    def __new__(cls, *given: Any, **named: Any) -> Options:
        """Refuse what ``__init__``, which dataclass makes, would refuse by a TypeError."""
        if given:
            raise BadInput(f"options were given {given!r}: expected them by name, as in Options(iterations=100)")
        known = [each.name for each in fields(cls)]
        for name in named:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, 0.5)
                expected = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}"
                raise BadInput(f"unknown option {name!r}: {expected}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for each in fields(self):
            default = each.default_factory() if callable(each.default_factory) else each.default
            self._set(each.name, seams.typed(f"option {each.name}", getattr(self, each.name), default))
        for name, known in CHOICES.items():
            self._need(name, getattr(self, name) in known, f"must be one of {', '.join(known)}")
        if self.distill != "task":
            self._need("distill", self.distill in DISTANCES, f"must be one of task, {', '.join(DISTANCES)}")
        for name in POSITIVE:
            self._need(name, 0 < getattr(self, name) < math.inf, "must be positive and finite")
        for name in WEIGHTS:
            self._need(name, 0 <= getattr(self, name) < math.inf, "must be a finite number >= 0")
        for name in ("iterations", "warm_up"):
            self._need(name, getattr(self, name) >= 0, "must not be negative")
        for name, (low, high) in RANGES.items():
            self._need(name, low <= getattr(self, name) <= high, f"must lie in [{low}, {high}]")
        self._need("confidence", 0.5 < self.confidence < 1, "must lie in (0.5, 1)")
        self._need("features", all(isinstance(name, str) for name in self.features), "must hold names of modules")
        if not (self.distill_weight or self.label_weight or (self.features and self.feature_weight)):
            raise BadInput("options leave nothing to tune for: expected distill_weight, features or label_weight")
        self._check_layer_bits()
        self._check_plugins()
        if self.version != VERSION:
            raise BadInput(f"options of version {self.version} cannot be used: expected version {VERSION}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _need(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise BadInput(f"option {name} {what}, found {getattr(self, name)!r}")

    def _check_layer_bits(self) -> None:
        plain = {}
        for pattern, limits in self.layer_bits.items():
            found = f"option layer_bits[{pattern!r}] is {limits!r}"
            try:
                low, high = (float(bits) for bits in limits)
            except (TypeError, ValueError) as error:
                raise BadInput(f"{found}: expected two numbers") from error
            if not 0 <= low <= high or low > MOST_BITS:
                expected = f"least and most bits per weight, 0 <= least <= most, least <= {MOST_BITS:g}"
                raise BadInput(f"{found}: expected {expected}")
            plain[pattern] = (low, high)
        self._set("layer_bits", plain)

    def _check_plugins(self) -> None:
        if not self.plugins:
            return
        self._set("plugins", seams.normal(self.plugins))
        transform, tuner, name = self.plugin("transform"), self.plugins.get("tuner"), self.plugins.get("transform")
        for option, value in {} if transform.straight else STRAIGHT.items():
            if getattr(self, option) == value:
                raise BadInput(f"option {option} is {value!r} with transform {name!r}: expected one of straight lines")
        if not seams.find("tuner", tuner).tunes(transform):
            raise BadInput(f"tuner {tuner!r} was given transform {name!r}: expected the standard one")

    def plugin(self, kind: str, *parts: Any) -> Any:
        """Return a new object of the class that is chosen for a kind of seam, of ``parts`` and its settings."""
        return seams.made(kind, self.plugins.get(kind), *parts)

    def to_json(self) -> str:
        """Return all settings as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Return the options that ``to_json`` wrote; BadInput for an unknown name or a value of the wrong type."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"options are not JSON: {error}") from error
        if not isinstance(values, dict):
            raise BadInput(f"options must be a JSON object, found {type(values).__name__}")
        return cls(**values)

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, as JSON holds them."""
        plain, default = json.loads(self.to_json()), json.loads(Options().to_json())
        return {name: value for name, value in plain.items() if value != default[name]}


Options.__signature__ = signature(partial(Options.__init__, Options()))


# the official code of L², as a yardstick: its schedule, start, rate estimate and losses, and static tables of codes
_L2: dict[str, Any] = {"distill": "mse", "features": ("auto",), "plugins": {"tuner": "alternating", "rate": "official"}}
PRESETS: dict[str, dict[str, Any]] = {  # settings: options import the plug-ins that they name
    "default": {},
    # rounding alone, without training: seconds; compensation may move weights further where no tuning follows
    "fast": {"iterations": 0, "bias_correction": True, "damping": 0.03},
    "paper": {"iterations": 3900, "batch": 16, "rounding": "nearest", "coder": "fast", **_L2},
}


def choose(options: Options | None, preset: str) -> Options:
    """Return ``options`` where given, else those of ``preset``; BadInput for an unknown preset, or for both."""
    if preset not in PRESETS:
        raise BadInput(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}")
    if options is not None and preset != "default":
        raise BadInput(f"options and preset {preset!r} were given: expected one of them")
    return options or Options(**PRESETS[preset])
