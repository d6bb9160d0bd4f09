"""Settings of the environment: actions, regions, episodes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, model_validator

from spm_gym.config.sections import Count, Fraction, NonNegative, Positive, Section, Text
from spm_gym.scale import NM
from spm_gym.types import Conditioning, Dip, Pulse, Stall

Mismatch = Literal["bias", "setpoint", "pixel", "material", "origin", "quality", "height_scale"]
"""Properties in which images may differ from those that a classifier was trained for."""


MOST_PIXELS = 1024
"""Of a line of an image."""

LEAST_OBSERVATION = 8
"""Pixels of a side."""

LEAST_PREVIEW_LINES = 8
"""Fewer do not show molecules of 1.4 nm in an image of 10 nm."""


class ActionConfig(Section):
    """A conditioning action that the agent may choose.

    Attributes:
        kind: Pulses and dips need ``bias_V``, dips also ``depth_nm``.
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
            return Dip(self.depth_nm * NM, self.bias_V, self.width_s)
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
    # The released table has +8 V as well, which its own rule for areas never allows.
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

    # The fine piezo reaches +-425 nm (paper, *Instrument and scanning*); cells and radius of an
    # image are the released code's, all else is the paper's.
    area_nm: Positive = 850.0
    cell_nm: Positive = 10.0
    alpha: NonNegative = 1.0
    max_jump_nm: Positive = 500.0
    image_blocked_nm: NonNegative = 5.0
    bad_sample_nm: Positive = 25.0


def _height_scale(value: object) -> object:
    # By itself, for the complaint of a union would name one of its types and not the others.
    if value in (None, "image"):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < 1e9:
        return float(value)
    raise ValueError("must be null, image, or a height from 1 to 1e9 pm")


class EnvConfig(Section):
    """Images, success and rewards of the episodes (paper, *Environment*).

    Attributes:
        angle_deg: Rotation of the scan frame, counter-clockwise.
        observation_pixels: Side of the observation, the image for classifier and agent, to which
            larger images are averaged; None: that of the classifier, and `pixels` where there is
            none.
        observation_nm: Middle part of the images that becomes the observation; None: as much as
            suits the classifier, and all where there is none.
        creep_wait_s: Pause after a coarse move for the piezos to settle.
        settle_fraction: Share of the lines that is scanned and discarded before every image that no
            preview comes before.
        preview_lines: Lines of the preview that is taken after every action; None takes a full
            image at once, as the paper does. 16 are recommended.
        preview_until: A full image follows a preview that leaves a good probe at least this
            probability.
        plane: Method that finds the substrate; "ransac" is the paper's.
        height_scale_pm: Height that becomes the unit of normalised images, half of that of what is
            on the substrate; "image": twice the spread of the heights of each image; None: that of
            the classifier, and 100 pm, half of a molecule of MgPc, where there is none.
        ground_truth: Whether the simulator's hidden state says that a probe is good, instead of the
            classifier.
        classifier: File of the classifier; None for the one in the package.
        accept_mismatch: Properties in which images may differ from those that the classifier was
            trained for; a mismatch that is not named is refused, see docs/classifier.md.
        material: Sample on the stage, in the words of the classifier's training; None compares
            nothing, and the simulator knows its own.
        good_above: A probe is good above this probability.
        damage: Whether a reset damages the probe.
        damage_below: Damaging ends below this probability.
        damage_actions: Most damaging actions of a reset; after the paper's five, one probe in a
            hundred is still good.
        success_replaces_step: Whether the last action pays the success alone, or both rewards.
        max_steps: Actions after which an episode is cut off.
        max_attempts: Most unusable images in a row.
        actions: Of which one is chosen; agents are trained for these, in this order.
        allowed_actions: Names of those that may be done; None for all. The others are masked, and
            the guard refuses them: an agent that has learned all of them goes on without.
    """

    # 64 pixels are the paper's, 10 nm the released code's.
    image_nm: Positive = 10.0
    pixels: Annotated[int, Field(ge=LEAST_OBSERVATION, le=MOST_PIXELS)] = 64
    angle_deg: Annotated[float, Field(gt=-180, le=180)] = 0.0
    observation_pixels: Count | None = None
    observation_nm: Positive | None = None
    # About 120 s (paper, *Instrument and scanning*); the released code does not wait. How much of
    # an image is thrown away the paper leaves open.
    creep_wait_s: NonNegative = 120.0
    settle_fraction: Fraction = 0.25
    preview_lines: Annotated[int, Field(ge=LEAST_PREVIEW_LINES)] | None = None
    preview_until: Fraction = 0.02
    # RANSAC locks on to molecules that cover half of an image, and tilts at step edges.
    plane: Literal["levels", "ransac"] = "levels"
    height_scale_pm: Annotated[float | Literal["image"] | None, PlainValidator(_height_scale)] = (
        None
    )
    ground_truth: bool = False
    classifier: Path | None = None
    accept_mismatch: tuple[Mismatch, ...] = ()
    material: Text | None = None
    good_above: Fraction = 0.9
    damage: bool = True
    damage_below: Fraction = 0.1
    # After the five of the paper, one episode in a hundred began with a good probe.
    damage_actions: Annotated[int, Field(ge=0)] = 20
    step_reward: float = -1.0
    success_reward: float = 10.0
    # As in the released code; the paper reads as if both were paid.
    success_replaces_step: bool = True
    # The released code's, which the paper does not give.
    max_steps: Count = 100
    max_attempts: Count = 10
    regions: RegionConfig = RegionConfig()
    actions: tuple[ActionConfig, ...] = PAPER_ACTIONS
    allowed_actions: tuple[str, ...] | None = None

    @property
    def extent_nm(self) -> float:
        """Extent of an image along x and y: more than its side, if it is rotated."""
        angle = math.radians(self.angle_deg)
        # A right angle rotates by a cosine of 6e-17: that is none.
        return self.image_nm * round(abs(math.cos(angle)) + abs(math.sin(angle)), 12)

    def may_choose(self, action: ActionConfig) -> bool:
        """Tell whether the settings allow an action at all, whatever the image shows."""
        return self.allowed_actions is None or action.name in self.allowed_actions

    @model_validator(mode="after")
    def _playable(self) -> EnvConfig:
        # Otherwise an image without a clean pixel would leave the agent without any action.
        anywhere = [action for action in self.actions if action.anywhere]
        if not anywhere:
            raise ValueError("at least one action must be allowed anywhere")
        names = [action.name for action in self.actions]
        for name in self.allowed_actions or ():
            if name not in names:
                raise ValueError(
                    f"allowed_actions has {name!r}, which is none of the actions: "
                    f"{', '.join(names)}"
                )
        if not any(map(self.may_choose, anywhere)):
            raise ValueError(
                "allowed_actions needs one that may be done anywhere, also where nothing is clean: "
                f"add {' or '.join(repr(action.name) for action in anywhere)}"
            )
        # Journals, files of weights and the map of blocked places tell actions by their names.
        if len({action.name for action in self.actions}) != len(self.actions):
            raise ValueError("action names must differ")
        if self.regions.area_nm < self.extent_nm:
            raise ValueError(
                f"regions.area_nm must be at least {self.extent_nm:g}, the extent of an image of "
                f"image_nm = {self.image_nm:g} at angle_deg = {self.angle_deg:g}"
            )
        return self

    @property
    def observed(self) -> tuple[int, int]:
        """Pixels of an image in the middle that are observed, and those of the observation."""
        part = self.pixels
        if self.observation_nm is not None:
            part = round(self.pixels * self.observation_nm / self.image_nm)
        return part, self.observation_pixels or part

    @model_validator(mode="after")
    def _observable(self) -> EnvConfig:
        if self.observation_nm is not None and self.observation_nm > self.image_nm:
            raise ValueError(
                f"observation_nm = {self.observation_nm:g} is more than image_nm = "
                f"{self.image_nm:g}"
            )
        part, side = self.observed
        # Not interpolated: detail that was not measured cannot show a probe.
        if not LEAST_OBSERVATION <= side <= part:
            raise ValueError(
                f"an observation of {side} pixels cannot be made of the {part} x {part} pixels "
                f"that observation_nm leaves of the images; allowed: {LEAST_OBSERVATION} to {part}"
            )
        return self

    @model_validator(mode="after")
    def _previews(self) -> EnvConfig:
        if self.preview_lines is None:
            return self
        allowed = [
            lines for lines in range(LEAST_PREVIEW_LINES, self.pixels) if self.pixels % lines == 0
        ]
        if self.preview_lines not in allowed:
            numbers = ", ".join(map(str, allowed)) or "none"
            raise ValueError(
                f"preview_lines = {self.preview_lines} must divide pixels = {self.pixels} and be "
                f"fewer; allowed: {numbers}"
            )
        # Otherwise a probe that is as good as an episode asks for would get no image that says so.
        if self.preview_until >= self.good_above:
            raise ValueError(
                f"preview_until = {self.preview_until} must be below good_above = {self.good_above}"
            )
        return self
