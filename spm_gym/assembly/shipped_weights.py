"""The weights that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def shipped_classifier() -> Path:
    """Find the classifier that comes with the package."""
    return Path(str(resources.files("spm_gym") / "data" / "classifier.safetensors"))


def shipped_agent() -> Path:
    """Find the weights of the agent that comes with the package."""
    return Path(str(resources.files("spm_gym") / "data" / "agent.safetensors"))


def shipped_recogniser() -> Path:
    """Find the recogniser of the probe's class that comes with the package."""
    return Path(str(resources.files("spm_gym") / "data" / "recogniser.safetensors"))
