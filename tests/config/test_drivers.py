"""Drivers from outside, as far as settings are concerned; a whole package is in tests/examples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spm_gym.assembly.drivers import find_driver
from spm_gym.config import Config, ConfigError, load_config
from spm_gym.config import drivers as found
from spm_gym.config.real import DriverSettings, NanonisConfig, RealConfig
from spm_gym.instrument.driver import Driver


class OutsideConfig(DriverSettings):
    port: int
    gain: float = 1.0

    def check(self, imaging: object, limits: object) -> None:
        if self.gain > 10:
            raise ValueError(f"outside.gain = {self.gain:g} is more than 10")


class OutsideDriver(Driver):
    settings = OutsideConfig
    capabilities = connect = preflight = None  # nothing is asked of it here


class Unfinished(Driver):
    settings = OutsideConfig


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Have entry points of these names lead to these objects."""
    module, entries = ModuleType("outside_drivers"), []
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def entry_points(group: str, name: str | None = None) -> list[metadata.EntryPoint]:
        assert group == "spm_gym.instruments"
        return [entry for entry in entries if name in (None, entry.name)]

    def add(name: str, driver: Any, attribute: str = "") -> None:
        attribute = attribute or f"driver_{len(entries)}"
        if driver is not None:
            setattr(module, attribute, driver)
        value = f"{module.__name__}:{attribute}"
        entries.append(metadata.EntryPoint(name, value, "spm_gym.instruments"))

    def forget() -> None:
        for cached in (found.load_outside_driver, found.real_config, _config):
            cached.cache_clear()

    from spm_gym.config import _config

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    forget()
    yield add
    forget()


def refused(*settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_settings_of_a_driver_from_outside_are_settings_like_ours(
    install: Install, tmp_path: Path
) -> None:
    install("outside", OutsideDriver())
    config = load_config(None, ["real.driver=outside", "real.outside.port=7"])
    assert isinstance(config, Config)
    assert isinstance(config.real, RealConfig)
    assert config.real.section(OutsideConfig) == OutsideConfig(port=7)
    assert isinstance(find_driver(config.real), OutsideDriver)
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "again.yaml") == config
    with pytest.raises(TypeError, match=r"real\.outside is no NanonisConfig"):
        config.real.section(NanonisConfig)


def test_the_driver_is_switched_without_its_section_going_astray(install: Install) -> None:
    install("outside", OutsideDriver())
    config = load_config(None, ["real.outside.port=7"])
    assert config.real.driver == "nanonis"
    assert config.real.section(NanonisConfig) == NanonisConfig()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["real.driver=outside"], ["real.outside.port", "required"]),
        (["real.driver=outside", "real.outside.port=x"], ["real.outside.port = 'x'", "integer"]),
        (["real.driver=outside", "real.outside.prt=1"], ["real.outside.port", "required"]),
        (
            ["real.driver=outside", "real.outside.port=1", "real.outside.gian=1"],
            ["unknown setting real.outside.gian", "did you mean 'gain'", "port, gain"],
        ),
        (
            ["real.driver=outside", "real.outside.port=1", "real.outside.gain=11"],
            ["setting real", "outside.gain = 11 is more than 10"],
        ),
        (["real.driver=outside", "real.outside=7"], ["real.outside = 7"]),
        (["real.driver=inside"], ["real.driver = 'inside'", "nanonis, deepspm, outside"]),
        (["real.driver=7"], ["real.driver = 7", "string"]),
        (["real.driver=imaging"], ["real.driver = 'imaging'", "nanonis, deepspm, outside"]),
        (["real.inside.port=1"], ["unknown setting real.inside"]),
    ],
)
def test_what_is_wrong_with_them_is_one_line(
    install: Install, settings: list[str], words: list[str]
) -> None:
    install("outside", OutsideDriver())
    message = refused(*settings)
    for word in words:
        assert word in message


def test_a_package_that_cannot_be_imported_is_one_line(install: Install) -> None:
    install("outside", None, "missing")
    message = refused("real.driver=outside")
    assert "driver outside" in message
    assert "cannot be loaded: AttributeError" in message


@pytest.mark.parametrize("settings", [None, 7, dict, RealConfig])
def test_a_driver_without_settings_is_refused(install: Install, settings: object) -> None:
    install("outside", type("Bad", (), {"settings": settings})())
    assert "must be a subclass of spm_gym.config.real.DriverSettings" in refused(
        "real.driver=outside"
    )


@pytest.mark.parametrize("name", ["limits", "imaging", "copy", "model_dump", "a.b", "a b"])
def test_a_name_that_would_hide_other_settings_is_refused(install: Install, name: str) -> None:
    install(name, OutsideDriver())
    assert "no free name of settings" in refused(f"real.driver={name}")


def test_two_packages_with_one_name_are_refused(install: Install) -> None:
    install("outside", OutsideDriver())
    install("outside", OutsideDriver())
    assert "by several packages" in refused("real.driver=outside")


def test_nothing_is_imported_that_no_setting_names(install: Install) -> None:
    install("outside", None, "missing")
    assert type(load_config()) is Config
    assert type(load_config(None, ["real.driver=deepspm"])) is Config


def test_a_driver_that_lacks_a_method_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="connect"):
        Unfinished()


def test_ours_come_first(install: Install) -> None:
    install("nanonis", OutsideDriver())
    assert type(load_config(None, ["real.driver=nanonis"])) is Config
    assert not isinstance(find_driver(RealConfig()), OutsideDriver)
