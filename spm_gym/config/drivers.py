"""Instrument drivers that other packages bring, and the settings that each of them adds.

A package declares its driver as an entry point of the group ``spm_gym.instruments``. Nothing of it
is imported before settings name it. What a driver has to be is said in
`spm_gym.instrument.driver`; here only its settings count.
"""

from __future__ import annotations

import functools
from importlib import metadata
from typing import Any

from pydantic import create_model

from spm_gym.config.real import DriverSettings, RealConfig
from spm_gym.config.sections import ConfigError
from spm_gym.config.yaml_file import excerpt, plain

GROUP = "spm_gym.instruments"
BUILT_IN = tuple(
    name for name, value in RealConfig() if isinstance(value, DriverSettings)
)  # fmt: skip


def installed_drivers() -> list[str]:
    """List the names of all drivers that ``real.driver`` may choose, ours first."""
    return [*BUILT_IN, *sorted({entry.name for entry in metadata.entry_points(group=GROUP)})]


@functools.cache
def load_outside_driver(name: str) -> Any:
    """Load the driver of this name that another package brings.

    Raises:
        ConfigError: There is none, or it cannot be used; one line.
    """
    entries = list(metadata.entry_points(group=GROUP, name=name))
    if not entries:
        raise ConfigError(
            f"setting real.driver = {excerpt(name)}: installed are {', '.join(installed_drivers())}"
        )
    brought = f"the instrument driver {plain(name)}"
    packages = sorted({entry.dist.name if entry.dist else "?" for entry in entries})
    if len({entry.value for entry in entries}) > 1:
        raise ConfigError(f"{brought} is brought by several packages: {', '.join(packages)}")
    brought += f" of the package {packages[0]}"
    # A name that settings have already would hide them, and one with a dot could not be set.
    if not name.isidentifier() or hasattr(RealConfig, name) or name in RealConfig.model_fields:
        raise ConfigError(f"{brought} cannot be used: its name is no free name of settings")
    try:
        driver = entries[0].load()
    except Exception as error:  # whatever another package does when it is imported
        why = plain(" ".join(f"{type(error).__name__}: {error}".split()), 300)
        raise ConfigError(f"{brought} cannot be loaded: {why}") from error
    settings = getattr(driver, "settings", None)
    if not (isinstance(settings, type) and issubclass(settings, DriverSettings)):
        raise ConfigError(
            f"{brought} cannot be used: its attribute 'settings' must be a subclass of "
            "spm_gym.config.real.DriverSettings"
        )
    return driver


def named_in(tree: object) -> tuple[str, ...]:
    """List the drivers from outside that settings choose, or have a section for.

    Args:
        tree: Settings as YAML holds them, not validated.
    """
    real = tree.get("real") if isinstance(tree, dict) else None
    if not isinstance(real, dict):
        return ()
    chosen = {real["driver"]} if isinstance(real.get("driver"), str) else set()
    unknown = {key for key in real if isinstance(key, str) and key not in RealConfig.model_fields}
    if unknown:
        unknown &= set(installed_drivers())
    return tuple(sorted((chosen | unknown) - set(BUILT_IN)))


@functools.cache
def real_config(drivers: tuple[str, ...]) -> type[RealConfig]:
    """Build the settings of the real microscope, with a section for each driver from outside.

    Raises:
        ConfigError: One of them is not installed, or cannot be used.
    """
    sections: dict[str, Any] = {name: (load_outside_driver(name).settings, ...) for name in drivers}
    return create_model("RealConfig", __base__=RealConfig, **sections)
