"""Training conditions of a classifier, and whether images are of that kind.

A classifier does not work on images of another bias, setpoint, scale or sample: there it calls
every probe bad, or any probe good, and a run would condition the probe for days because of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from spm_gym.config import Config, ConfigError, EnvConfig
from spm_gym.config.environment import Mismatch
from spm_gym.config.sections import Fraction, Text
from spm_gym.errors import brief
from spm_gym.imaging.image_size import (
    PIXEL_FACTOR,
    TakenImages,
    fitting_sizes,
    observed_pixel,
)
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale, scale_text
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.scale import PM
from spm_gym.types import Classifier, Scan

BIAS_FACTOR = 2.0
"""Within this factor the same orbital carries most of the current; the other sign images another
orbital."""

SETPOINT_FACTOR = 4.0
"""A current four times as large brings the tip 0.07 nm closer, a fifth of the tip's height in the
simulator: the image of a molecule stays as sharp as before."""

HEIGHT_FACTOR = 1.01
"""Within this factor two height scales are the same: the z piezo is calibrated no better."""

LEAST_AUC = 0.9
"""Below it, a good image is ranked behind a bad one more than once in ten times."""

_ROUNDING = 1e-6
"""Controllers keep single precision: a range is not left by what that adds."""

Origin = Literal["simulated", "real"]


class ClassifierError(ValueError):
    """A classifier file, its images or its training data are not what they must be."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"must be [lowest, highest], not {list(bounds)}")
    return bounds


_Positive = Annotated[float, Field(gt=0)]
_Signed = Annotated[tuple[float, float], AfterValidator(_ordered)]
_Magnitude = Annotated[tuple[_Positive, _Positive], AfterValidator(_ordered)]


@validated(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class TrainingConditions:
    """Conditions of the images that a classifier was trained on; None if unknown.

    Attributes:
        origin: Whether its images were simulated.
        material: Adsorbate and substrate, such as "MgPc on Ag(100)".
        bias: Lowest and highest sample bias, V, with its sign.
        setpoint: Lowest and highest magnitude of the current setpoint, A.
        pixel: Smallest and largest pixel, m.
        auc: Area under the ROC curve of the validation images.
        images: How many validation images there were.
    """

    origin: Origin
    material: Text | None = None
    bias: _Signed | None = None
    setpoint: _Magnitude | None = None
    pixel: _Magnitude | None = None
    auc: Fraction | None = None
    images: Annotated[int, Field(ge=0)] | None = None

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON values, for `from_json`."""
        found: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return found

    @classmethod
    def from_json(cls, value: object) -> TrainingConditions:
        """Convert from the values that `to_json` gave.

        Raises:
            ClassifierError: A field is missing, unknown, of another kind, not finite or not in
                order; it is named.
        """
        # Through JSON text: strict checks of Python values would refuse a list for a tuple.
        try:
            return _ADAPTER.validate_json(json.dumps(value))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(["conditions", *map(str, first["loc"])])
            reason = first["msg"].removeprefix("Value error, ")
            raise ClassifierError(f"its {field} = {brief(first['input'])}: {reason}") from None


_ADAPTER = TypeAdapter(TrainingConditions)


@dataclass(frozen=True, slots=True)
class ImagingConditions:
    """Conditions at which images were taken or will be.

    Attributes:
        material: Sample on the stage; None if unknown.
        origin: Whether the microscope is simulated.
        bias: Sample bias, V; NaN if unknown.
        setpoint: Current setpoint, A; NaN if unknown.
        pixel: Side of a pixel, m.
    """

    material: str | None
    origin: Origin
    bias: float
    setpoint: float
    pixel: float


class _Quantity(NamedTuple):
    """How a number is compared and written, and its settings of imaging and of training."""

    factor: float
    unit: str
    per_unit: float
    imaging: str
    training: str


_QUANTITIES: dict[Mismatch, _Quantity] = {
    "bias": _Quantity(BIAS_FACTOR, "V", 1.0, "real.imaging.bias_V", "classifier.bias_V"),
    "setpoint": _Quantity(
        SETPOINT_FACTOR, "pA", 1e12, "real.imaging.setpoint_pA", "classifier.setpoint_pA"
    ),
    "pixel": _Quantity(PIXEL_FACTOR, "nm per pixel", 1e9, "env.image_nm", "classifier.image_nm"),
}


def mismatches(
    trained: TrainingConditions, imaging: ImagingConditions, accepted: Collection[str]
) -> dict[Mismatch, str]:
    """Compare images with those that a classifier was trained on.

    Args:
        trained: Conditions of the training images.
        imaging: Conditions of the images.
        accepted: Names of mismatches to ignore (setting ``env.accept_mismatch``).

    Returns:
        A sentence for each mismatch, by name.
    """
    # A number that is unknown on either side is a mismatch, because nothing shows that it is right.
    # Materials are free text that few people write down, so they count only where both are known.
    here, known = imaging.material, trained.material
    found = _numbers(trained, imaging.bias, imaging.setpoint, imaging.pixel)
    if here is not None and known is not None and _folded(here) != _folded(known):
        found["material"] = (
            f"on the stage is {here} (env.material), the classifier was trained on {known}"
        )
    if imaging.origin != trained.origin:
        found["origin"] = (
            f"the images are {imaging.origin}, the classifier was trained on {trained.origin} ones"
        )
    if trained.auc is None:
        found["quality"] = (
            "the classifier's quality on validation images is unknown; an area under the ROC curve "
            f"of at least {LEAST_AUC:g} is required"
        )
    elif not trained.auc >= LEAST_AUC:
        found["quality"] = (
            f"the classifier has an area under the ROC curve of {trained.auc:.3f} on validation "
            f"images; at least {LEAST_AUC:g} is required"
        )
    return _with_remedy(found, accepted)


def scan_mismatches(
    trained: TrainingConditions, scan: Scan, accepted: Collection[str], averaged: float = 1.0
) -> dict[Mismatch, str]:
    """Compare bias, setpoint and pixel of a scan with those of the training images.

    Args:
        trained: Conditions of the training images.
        scan: The scan.
        accepted: As for `mismatches`.
        averaged: Pixels of the scan in a row that a pixel of the classifier's image is made of.
    """
    pixel = scan.frame.pixel * averaged
    return _with_remedy(_numbers(trained, scan.bias, scan.setpoint, pixel), accepted)


def classifier_findings(
    conditions: TrainingConditions, config: Config, bias: float, setpoint: float, origin: Origin
) -> dict[Mismatch, str]:
    """Compare the images that the settings ask for with those that a classifier was trained on.

    Args:
        conditions: Conditions of the training images.
        config: All settings.
        bias: Bias of the images, V; NaN if unknown.
        setpoint: Current setpoint of the images, A; NaN if unknown.
        origin: Whether the microscope is simulated.

    Returns:
        A sentence for each mismatch, by name.
    """
    env, material = config.env, config.env.material
    if material is None and origin == "simulated" and config.run.microscope == "sim":
        material = config.simulator.material
    imaging = ImagingConditions(material, origin, bias, setpoint, observed_pixel(env))
    found = mismatches(conditions, imaging, env.accept_mismatch)
    if "pixel" in found and conditions.pixel is not None:
        taken = TakenImages(env.observed[1], conditions.pixel)
        found["pixel"] += f"; {fitting_sizes(env, taken)}"
    return found


def with_height_scale(env: EnvConfig, *classifiers: Classifier) -> EnvConfig:
    """Fill in the height scale that classifiers were trained with, where the settings have none.

    Raises:
        ConfigError: One of them was trained with another, and the settings do not accept it.
    """
    # The truth needs no images, and a function of somebody's own says nothing of them.
    scales = dict.fromkeys(getattr(classifier, "height_scale", None) for classifier in classifiers)
    known: list[HeightScale] = [scale for scale in scales if scale is not None]
    if env.height_scale_pm is None and known and known[0] != HALF_MOLECULE:
        scale = "image" if known[0] == "image" else known[0] / PM
        env = env.model_copy(update={"height_scale_pm": scale})
    for trained in known:
        if why := height_scale_mismatch(trained, env):
            raise ConfigError(
                f"setting env.height_scale_pm = {env.height_scale_pm}: the classifier {why}; leave "
                "it to the classifier (null), use another one (env.classifier), or accept it by "
                "name (env.accept_mismatch: [height_scale])"
            )
    return env


def height_scale_mismatch(trained: HeightScale, env: EnvConfig) -> str:
    """Explain that a network was trained with another height scale; "" if not, or if accepted."""
    here = Preprocessing.of(env).scale
    if here == "image" or trained == "image":
        return kind_of_scale_mismatch(trained, env)
    same = max(here, trained) <= HEIGHT_FACTOR * min(here, trained)
    return "" if same or "height_scale" in env.accept_mismatch else _other_scale(trained, here)


def kind_of_scale_mismatch(trained: HeightScale, env: EnvConfig) -> str:
    """Explain that a network was trained with another kind of height scale; "" as above.

    Heights in units of what is on the sample are alike on every sample: the substrate is at -1, its
    top at 1. A network that has to know actions or probes, and not the sample, may take images of
    any such scale; but not those in units of their own spread, nor the other way round.
    """
    here = Preprocessing.of(env).scale
    same = (here == "image") == (trained == "image")
    return "" if same or "height_scale" in env.accept_mismatch else _other_scale(trained, here)


def _other_scale(trained: HeightScale, here: HeightScale) -> str:
    return (
        f"was trained with images normalised by {scale_text(trained)}, and those of these settings "
        f"are by {scale_text(here)} (env.height_scale_pm)"
    )


def conditions_of(classifier: Classifier) -> TrainingConditions | None:
    """Return the training conditions of a classifier; None for the ground truth, which has none."""
    found: TrainingConditions | None = getattr(classifier, "conditions", None)
    return found


def described(conditions: TrainingConditions) -> list[tuple[str, str]]:
    """List training conditions as names and values for people."""
    found = [
        ("trained on", f"{conditions.origin} images"),
        ("material", conditions.material or "unknown"),
    ]
    found += [(name, range_text(name, getattr(conditions, name))) for name in _QUANTITIES]
    if conditions.auc is None:
        return [*found, ("validation", "none")]
    return [*found, ("validation", f"AUC {conditions.auc:.4f} of {conditions.images} images")]


def _numbers(
    trained: TrainingConditions, bias: float, setpoint: float, pixel: float
) -> dict[Mismatch, str]:
    # Preamplifiers differ in the sign of the current; the feedback holds its magnitude.
    given: dict[Mismatch, float] = {"bias": bias, "setpoint": abs(setpoint), "pixel": pixel}
    return {
        name: why
        for name, value in given.items()
        if (why := _number(name, value, getattr(trained, name)))
    }


def _number(name: Mismatch, value: float, trained: tuple[float, float] | None) -> str:
    """Explain why the classifier was not trained for a number; "" if it was."""
    quantity = _QUANTITIES[name]
    if trained is None:
        return (
            f"the {name} of the classifier's training images is unknown: train it again and set "
            f"{quantity.training}"
        )
    low, high = _trusted(trained, quantity.factor * (1 + _ROUNDING))
    if low <= value <= high:  # false for NaN
        return ""
    given = "an unknown one" if math.isnan(value) else range_text(name, (value, value))
    trusted = range_text(name, _trusted(trained, quantity.factor))
    return (
        f"the images have {given} (set {quantity.imaging}), the classifier was trained for "
        f"{range_text(name, trained)} and is trusted for {trusted}"
    )


def _trusted(trained: tuple[float, float], factor: float) -> tuple[float, float]:
    """Widen a range by a factor, but never across zero: another sign is another orbital."""
    low, high = trained
    return (
        low / factor if low > 0 else low * factor,
        high * factor if high > 0 else high / factor,
    )


def range_text(name: str, bounds: tuple[float, float] | None) -> str:
    """Write numbers of a property of images with their unit."""
    if bounds is None:
        return "unknown"
    quantity = _QUANTITIES[name]  # type: ignore[index]
    low, high = (f"{bound * quantity.per_unit:.4g}" for bound in bounds)
    return f"{low} {quantity.unit}" if low == high else f"{low} to {high} {quantity.unit}"


def _with_remedy(found: dict[Mismatch, str], accepted: Collection[str]) -> dict[Mismatch, str]:
    return {
        name: f"{name}: {why}; use a classifier for such images (env.classifier), or accept it by "
        f"name (env.accept_mismatch: [{name}])"
        for name, why in found.items()
        if name not in accepted
    }


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
