"""The base of all settings, and the types that they share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must be printable text in one line")
    return text


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(max_length=200), AfterValidator(_printable)]


class ConfigError(ValueError):
    """A setting is unknown or impossible; the message names key, value and what is allowed."""


class Section(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    # Frozen: what is in force is written into the run before it begins. No NaN and no infinity: the
    # first compares false with everything, the second is a limit that limits nothing.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
