"""Settings: YAML files and ``key=value`` arguments become validated, frozen values.

Every default of the project is written here, once; ``configs/default.yaml`` lists them all and a
test keeps the two equal. Lengths in settings carry their unit in the name (``_nm``, ``_pm``).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spm_gym.types import Conditioning, Dip, Pulse, Stall

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(ValueError):
    """A setting is unknown or impossible; the message names key, value and what is allowed."""


class Section(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ActionConfig(Section):
    """One of the conditioning actions the agent chooses from.

    Attributes:
        kind: What is done; ``bias_V`` belongs to pulses and dips, ``depth_nm`` to dips.
        width_s: Duration of a pulse or dip, s.
        clean_nm: Side of the clean square that the action needs.
        blocked_nm: Radius that the action spoils around its place.
        damaging: Whether the damaging reset may choose it.
        anywhere: Whether it is allowed when there is no clean pixel at all.
    """

    name: str
    kind: Literal["stall", "pulse", "dip"]
    bias_V: float | None = None
    depth_nm: float | None = None
    width_s: Positive = 0.2
    clean_nm: NonNegative = 0.0
    blocked_nm: NonNegative = 10.0
    damaging: bool = False
    anywhere: bool = False

    @model_validator(mode="after")
    def _complete(self) -> ActionConfig:
        needed = {"stall": set(), "pulse": {"bias_V"}, "dip": {"bias_V", "depth_nm"}}[self.kind]
        given = {key for key in ("bias_V", "depth_nm") if getattr(self, key) is not None}
        if needed != given:
            raise ValueError(f"a {self.kind} is given by {sorted(needed) or 'nothing'}")
        return self

    @property
    def conditioning(self) -> Conditioning:
        """The action in SI units."""
        if self.kind == "dip":
            assert self.depth_nm is not None
            assert self.bias_V is not None
            return Dip(self.depth_nm * 1e-9, self.bias_V, self.width_s)
        if self.kind == "pulse":
            assert self.bias_V is not None
            return Pulse(self.bias_V, self.width_s)
        return Stall()


def _pulse(bias: float, damaging: bool = False) -> ActionConfig:
    return ActionConfig(name=f"pulse {bias:+.1f} V", kind="pulse", bias_V=bias, damaging=damaging)


def _dip(depth: float, clean: float, blocked: float) -> ActionConfig:
    return ActionConfig(
        name=f"dip {depth:.1f} nm",
        kind="dip",
        bias_V=0.02,
        depth_nm=depth,
        clean_nm=clean,
        blocked_nm=blocked,
        damaging=True,
    )


PAPER_ACTIONS: tuple[ActionConfig, ...] = (
    ActionConfig(name="stall", kind="stall", blocked_nm=50.0, anywhere=True),
    _pulse(2.5),
    _pulse(4.0),
    _pulse(-2.5),
    _pulse(-4.0),
    _pulse(-8.0, damaging=True),
    _dip(0.8, clean=1.0, blocked=10.0),
    _dip(1.0, clean=1.0, blocked=10.0),
    _dip(1.2, clean=2.0, blocked=10.0),
    _dip(1.8, clean=2.0, blocked=10.0),
    _dip(2.5, clean=3.0, blocked=25.0),
    _dip(5.0, clean=4.0, blocked=25.0),
)
"""The twelve actions of the paper, with the clean squares and blocked radii of its code."""


class RegionConfig(Section):
    """The approach area and how places in it are chosen (paper, *Region selection*).

    Attributes:
        cell_nm: Distance of neighbouring candidates.
        alpha: Weight of the distance from the centre of the area.
        max_jump_nm: A next region further away than this means a new area.
        image_blocked_nm: Radius that an image itself uses up.
        bad_sample_nm: Radius blocked for the first bad sample; the t-th in a row blocks sqrt(t)
            times as much.
    """

    area_nm: Positive = 850.0
    cell_nm: Positive = 10.0
    alpha: NonNegative = 1.0
    max_jump_nm: Positive = 500.0
    image_blocked_nm: NonNegative = 5.0
    bad_sample_nm: Positive = 25.0


class EnvConfig(Section):
    """The episode: what is imaged, what counts as good, what is paid (paper, *Environment*).

    Attributes:
        settle_fraction: Share of the lines that is scanned and discarded before every image.
        plane: How the substrate is found; "ransac" is the paper's.
        judge: Who says that a probe is good; the truth is the simulator's hidden state.
        classifier: File of the classifier; None for the one in the package.
        good_above: A probe is good above this probability.
        damage: Whether a reset damages the probe.
        damage_below: Damaging ends below this probability.
        damage_actions: Most damaging actions of a reset.
        success_replaces_step: Whether the last action pays the success alone, or both.
        max_steps: Actions after which an episode is cut off.
        max_attempts: Images that may turn out unusable in a row.
    """

    image_nm: Positive = 10.0
    pixels: Annotated[int, Field(ge=8, le=1024)] = 64
    settle_fraction: Fraction = 0.25
    plane: Literal["levels", "ransac"] = "levels"
    judge: Literal["classifier", "truth"] = "classifier"
    classifier: Path | None = None
    good_above: Fraction = 0.9
    damage: bool = True
    damage_below: Fraction = 0.1
    damage_actions: Annotated[int, Field(ge=0)] = 5
    step_reward: float = -1.0
    success_reward: float = 10.0
    success_replaces_step: bool = True
    max_steps: Count = 100
    max_attempts: Count = 10
    regions: RegionConfig = RegionConfig()
    actions: tuple[ActionConfig, ...] = PAPER_ACTIONS

    @model_validator(mode="after")
    def _playable(self) -> EnvConfig:
        if not any(action.anywhere for action in self.actions):
            raise ValueError("at least one action must be allowed anywhere")
        if len({action.name for action in self.actions}) != len(self.actions):
            raise ValueError("action names must differ")
        if self.regions.area_nm < self.image_nm:
            raise ValueError("regions.area_nm must be at least image_nm")
        return self


class SimulatorConfig(Section):
    """The simulated microscope; nothing in it is calibrated against a real one.

    Attributes:
        mode: Whether the probe's kernel is convolved with the tunnel current or with the heights.
        tilt_pm_per_nm: Spread of the sample's tilt along either axis.
        creep_fraction: Share of a move by which the piezo is still off right after it.
        terrace_nm: Mean width of a terrace.
        rough_fraction: Share of the area that is bad sample.
        tip_change_rate: Probability that the tip changes by itself during a scan.
        contact_loss_rate: Probability that contact is lost during a scan.
        crash_rate: Probability that the tip crashes during a scan, or in a dip.
        z_range_nm: Full range of the z piezo.
        transitions: Table of the probe's changes (YAML); None for the one in the package.
    """

    mode: Literal["current", "linear"] = "current"
    white_noise_pm: NonNegative = 2.0
    line_noise_pm: NonNegative = 1.2
    tilt_pm_per_nm: NonNegative = 19.2
    drift_pm_per_s: NonNegative = 1.0
    creep_fraction: Fraction = 0.02
    molecules_per_nm2: NonNegative = 0.055
    min_distance_nm: Positive = 1.75
    terrace_nm: Positive = 125.0
    rough_fraction: Fraction = 0.02
    tip_change_rate: Fraction = 0.002
    contact_loss_rate: Fraction = 0.0001
    crash_rate: Fraction = 0.0001
    speed_nm_per_s: Positive = 80.0
    z_range_nm: Positive = 300.0
    transitions: Path | None = None


class NetworkConfig(Section):
    """A member of the paper's VGG family (paper, *Networks*).

    Attributes:
        channels: Feature maps of each set of 3x3 convolutions.
        convolutions: Convolutions in each set.
        pooled_sets: How many of the first sets are followed by 2x2 max pooling.
        stem_stride: Stride of the very first convolution.
        hidden: Units of each fully connected layer before the output.
        norm: Normalisation on every layer but the output.
        dropout: Dropout after each fully connected layer.
    """

    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 32, 64, 64)
    convolutions: Count = 1
    pooled_sets: Annotated[int, Field(ge=0)] = 4
    stem_stride: Annotated[int, Field(ge=1, le=4)] = 2
    hidden: tuple[Count, ...] = (128,)
    norm: Literal["batch", "group", "none"] = "none"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _pools_what_it_has(self) -> NetworkConfig:
        if self.pooled_sets > len(self.channels):
            raise ValueError(
                f"pooled_sets must be at most the number of sets, {len(self.channels)}, "
                f"not {self.pooled_sets}"
            )
        return self


class ClassifierConfig(Section):
    """Training of the image classifier (paper, *Networks*).

    Attributes:
        images: Simulated images to train and validate on.
        validation_fraction: Share of the images that is kept for validation.
        split: Whether single images or whole measurement sessions are kept.
        good_weight: Weight of good images in the loss: multiplies the odds that it learns.
        flips: Whether to mirror images at random.
        counterexamples: Images without molecules that join the training as bad ones, as a share
            of the training images.
        device: A torch device; "auto" takes a GPU if there is one.
    """

    network: NetworkConfig = NetworkConfig()
    images: Count = 40_000
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.24
    split: Literal["image", "session"] = "image"
    epochs: Count = 10
    batch_size: Count = 64
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 5e-5
    good_weight: Positive = 3.0
    flips: bool = True
    counterexamples: Fraction = 0.2
    device: str = "auto"


class AgentConfig(Section):
    """The double DQN (paper, *Double DQN*).

    Attributes:
        network: Of the Q-values; the classifier's, with another output layer, if `from_classifier`.
        from_classifier: Whether to begin with the weights of the environment's classifier.
        steps: Actions of a whole training run, prefill included.
        prefill: Random actions before learning begins.
        buffer_steps: Steps that the replay buffer keeps; the paper's 15,000 experiences are 3,750
            steps in four orientations.
        final_learning_rate: Share of the learning rate that is left at the end.
        flips: Whether sampled steps are mirrored at random.
        shift_pixels: Sampled images are moved by up to so many pixels.
        epsilon_steps: Actions over which epsilon falls, after the prefill.
        target_every: Gradient steps between two copies to the target network.
        replay_ratio: Gradient steps per action.
        parallel: Whether acting and learning share the time in two threads; alone, a run can be
            repeated bit for bit.
        max_lag: Gradient steps by which learning may lag behind before acting waits.
        device: A torch device; "auto" takes a GPU if there is one.
    """

    network: NetworkConfig = NetworkConfig()
    from_classifier: bool = True
    steps: Count = 5_360
    prefill: Annotated[int, Field(ge=0)] = 500
    buffer_steps: Count = 5_360
    batch_size: Count = 64
    gamma: Fraction = 0.95
    learning_rate: Positive = 5e-4
    final_learning_rate: Fraction = 0.02
    loss: Literal["mse", "huber"] = "mse"
    max_grad_norm: Positive | None = None
    flips: bool = True
    shift_pixels: Annotated[int, Field(ge=0)] = 4
    epsilon_start: Fraction = 1.0
    epsilon_end: Fraction = 0.05
    epsilon_steps: Count = 500
    target_every: Count = 100
    replay_ratio: Positive = 1.0
    parallel: bool = True
    max_lag: Count = 8
    device: str = "auto"


class RunConfig(Section):
    """What a run writes and how it uses the machine."""

    checkpoint_every: Count = 500
    image_every: Count = 500
    threads: Count = 1


class RealConfig(Section):
    """The real microscope (Nanonis over TCP)."""

    host: str = "127.0.0.1"
    ports: tuple[int, ...] = (6501, 6502, 6503, 6504)


class Config(Section):
    """All settings of a run."""

    seed: Annotated[int, Field(ge=0)] = 0
    env: EnvConfig = EnvConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    agent: AgentConfig = AgentConfig()
    run: RunConfig = RunConfig()
    real: RealConfig = RealConfig()

    def to_yaml(self) -> str:
        """The settings as YAML that `load_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read settings from a YAML file and ``key=value`` arguments, which win.

    Args:
        path: YAML file; what it leaves out keeps its default.
        overrides: For example ``"agent.steps=1000"``; the value is YAML.

    Raises:
        ConfigError: One line that names the key, the value and what is allowed.
    """
    tree: Any = {}
    if path is not None:
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration {path}: {error}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} must hold settings as 'key: value', not {tree!r}")
    for override in overrides:
        _set(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_first_line(error)) from error


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes key=value, for example agent.steps=1000, not {override!r}")
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: {parent!r} has no settings below it")
    try:
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value") from error


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    location = first["loc"]
    key = ".".join(str(part) for part in location) or "settings"
    if first["type"] != "extra_forbidden":
        reason = first["msg"].removeprefix("Value error, ")
        value = first["input"]
        whole_section = first["type"] == "value_error" and isinstance(value, dict | BaseModel)
        shown = "" if whole_section else f" = {value!r}"
        return f"setting {key}{shown}: {reason}"
    allowed = list(_section(location[:-1]).model_fields)
    close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"unknown setting {key} = {first['input']!r}: {hint}allowed here are {', '.join(allowed)}"
    )


def _section(location: tuple[int | str, ...]) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for part in location:
        if part == "actions" or isinstance(part, int):
            section = ActionConfig
            continue
        annotation = section.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return section
