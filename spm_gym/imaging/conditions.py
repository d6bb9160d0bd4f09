"""What a classifier was trained for, and whether images are of that kind.

A classifier knows nothing of a bias, a setpoint, a scale or a sample that it has not seen: there
it calls every probe bad, or any probe good, and a run would condition for days on its word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from spm_gym.config import Config
from spm_gym.config.environment import Mismatch
from spm_gym.config.sections import Fraction, Text
from spm_gym.types import Classifier, Scan

BIAS_FACTOR = 2.0
"""With the same sign and within this factor the same orbital carries most of the current; the
other sign images another orbital."""

SETPOINT_FACTOR = 4.0
"""A current four times as large brings the tip 0.07 nm closer, a fifth of the tip's height in the
simulator: what is seen of a molecule is as sharp as before."""

PIXEL_FACTOR = 1.15
"""Molecules are the ruler by which a network tells one tip from two: they may vary in size by as
much as piezos are badly calibrated, not more. The shipped classifier does well up to here."""

LEAST_AUC = 0.9
"""Below it, a good image is ranked behind a bad one more than once in ten times."""

# Controllers keep single precision.
_ROUNDING = 1e-6

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
    """What a classifier was trained for; None is what nobody has told.

    Attributes:
        origin: Whether its images were simulated.
        material: What they showed, such as "MgPc on Ag(100)".
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
        """As JSON values, for `from_json`."""
        found: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return found

    @classmethod
    def from_json(cls, value: object) -> TrainingConditions:
        """Take what `to_json` gave.

        Raises:
            ClassifierError: A field is missing, unknown, of another kind, not finite or not in
                order; it is named.
        """
        try:
            return _ADAPTER.validate_json(json.dumps(value))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(["conditions", *map(str, first["loc"])])
            reason = first["msg"].removeprefix("Value error, ")
            raise ClassifierError(f"its {field} = {_shortened(first['input'])}: {reason}") from None


_ADAPTER = TypeAdapter(TrainingConditions)


@dataclass(frozen=True, slots=True)
class ImagingConditions:
    """What images were taken at, or will be.

    Attributes:
        material: What is on the stage; None if nobody has told.
        origin: Whether the microscope is simulated.
        bias: Sample bias, V; NaN if nobody has told.
        setpoint: Current setpoint, A; NaN if nobody has told.
        pixel: Side of a pixel, m.
    """

    material: str | None
    origin: Origin
    bias: float
    setpoint: float
    pixel: float


class _Quantity(NamedTuple):
    """How a number is compared and spoken of: the settings of imaging and of training."""

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
    """In what images differ from those that a classifier was trained for.

    A number that is unknown on either side is a mismatch, because nothing shows that it is right; a
    material counts only where both are told.

    Args:
        trained: What the classifier says of itself.
        imaging: The images.
        accepted: Names that are not looked at (setting ``env.accept_mismatch``).

    Returns:
        A sentence by name.
    """
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
            "nobody has told how well the classifier does on validation images; an area under the "
            f"ROC curve of at least {LEAST_AUC:g} is asked for"
        )
    elif not trained.auc >= LEAST_AUC:
        found["quality"] = (
            f"the classifier has an area under the ROC curve of {trained.auc:.3f} on validation "
            f"images; at least {LEAST_AUC:g} is asked for"
        )
    return _told(found, accepted)


def scan_mismatches(
    trained: TrainingConditions, scan: Scan, accepted: Collection[str]
) -> dict[Mismatch, str]:
    """As `mismatches`, of what a scan itself says."""
    return _told(_numbers(trained, scan.bias, scan.setpoint, scan.frame.pixel), accepted)


def classifier_findings(
    conditions: TrainingConditions, config: Config, bias: float, setpoint: float, origin: Origin
) -> dict[Mismatch, str]:
    """What is wrong with a classifier for the images of these settings, a sentence by name.

    Args:
        conditions: What it was trained for.
        config: All settings.
        bias: That images will be taken at, V; NaN if unknown.
        setpoint: Likewise, A.
        origin: Whether the microscope is simulated.
    """
    env, material = config.env, config.env.material
    if material is None and origin == "simulated" and config.run.microscope == "sim":
        material = config.simulator.material
    pixel = env.image_nm * 1e-9 / env.pixels
    imaging = ImagingConditions(material, origin, bias, setpoint, pixel)
    return mismatches(conditions, imaging, env.accept_mismatch)


def conditions_of(classifier: Classifier) -> TrainingConditions | None:
    """What a classifier was trained for; None for what was not trained, as the ground truth."""
    found: TrainingConditions | None = getattr(classifier, "conditions", None)
    return found


def described(conditions: TrainingConditions) -> list[tuple[str, str]]:
    """What a classifier was trained for, as names and values for people."""
    found = [
        ("trained on", f"{conditions.origin} images"),
        ("material", conditions.material or "not told"),
    ]
    found += [(name, _range(name, getattr(conditions, name))) for name in _QUANTITIES]
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
    """Why a number is not one that the classifier was trained for; "" if it is."""
    quantity = _QUANTITIES[name]
    if trained is None:
        return (
            f"the classifier does not say for what {name} it was trained: train it again and tell "
            f"{quantity.training}"
        )
    low, high = _trusted(trained, quantity.factor * (1 + _ROUNDING))
    if low <= value <= high:  # false for NaN
        return ""
    asked = "an unknown one" if math.isnan(value) else _range(name, (value, value))
    trusted = _range(name, _trusted(trained, quantity.factor))
    return (
        f"the images have {asked} (set {quantity.imaging}), the classifier was trained for "
        f"{_range(name, trained)} and is trusted for {trusted}"
    )


def _trusted(trained: tuple[float, float], factor: float) -> tuple[float, float]:
    """The range, wider by a factor, but never across zero."""
    low, high = trained
    return (
        low / factor if low > 0 else low * factor,
        high * factor if high > 0 else high / factor,
    )


def _range(name: str, bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return "not told"
    quantity = _QUANTITIES[name]  # type: ignore[index]
    low, high = (f"{bound * quantity.per_unit:.4g}" for bound in bounds)
    return f"{low} {quantity.unit}" if low == high else f"{low} to {high} {quantity.unit}"


def _told(found: dict[Mismatch, str], accepted: Collection[str]) -> dict[Mismatch, str]:
    return {
        name: f"{name}: {why}; use a classifier for such images (env.classifier), or accept it by "
        f"name (env.accept_mismatch: [{name}])"
        for name, why in found.items()
        if name not in accepted
    }


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _shortened(value: object, most: int = 60) -> str:
    text = ascii(value)
    return text if len(text) <= most else f"{text[:most]}..."
