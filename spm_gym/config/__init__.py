"""Settings: YAML files and ``key=value`` arguments become validated, frozen values.

Every default of the project is written here, once; ``configs/default.yaml`` lists them all and a
test keeps the two equal. Lengths in settings carry their unit in the name (``_nm``, ``_pm``).
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model, model_validator

from spm_gym.config.drivers import named_in, real_config
from spm_gym.config.environment import PAPER_ACTIONS, ActionConfig, EnvConfig, RegionConfig
from spm_gym.config.learning import (
    LAB,
    LAB_PRETRAINED,
    AgentConfig,
    AugmentationConfig,
    BeliefConfig,
    ClassifierConfig,
    NetworkConfig,
    RecogniserConfig,
)
from spm_gym.config.operation import (
    BudgetConfig,
    FaultConfig,
    OperationConfig,
    ScheduledFault,
)
from spm_gym.config.real import RealConfig
from spm_gym.config.sections import ConfigError, Count, Fraction, NonNegative, Positive, Section
from spm_gym.config.simulator import SimulatorConfig
from spm_gym.config.yaml_file import excerpt, parse_yaml, plain, read_yaml

__all__ = [
    "LAB",
    "LAB_PRETRAINED",
    "PAPER_ACTIONS",
    "ActionConfig",
    "AgentConfig",
    "AugmentationConfig",
    "BeliefConfig",
    "BudgetConfig",
    "ClassifierConfig",
    "Config",
    "ConfigError",
    "EnvConfig",
    "FaultConfig",
    "Fraction",
    "NetworkConfig",
    "NonNegative",
    "OperationConfig",
    "Positive",
    "RealConfig",
    "RecogniserConfig",
    "RegionConfig",
    "RunConfig",
    "ScheduledFault",
    "Section",
    "SimulatorConfig",
    "load_config",
    "validated",
]


class RunConfig(Section):
    """Which microscope a run drives, what it writes and how it uses the machine.

    Attributes:
        threads: Of torch from the moment that an environment is built, and for a command of all
            numerical libraries and of the processes that simulate images for a classifier; small
            networks and images gain nothing from more than one. null leaves them as they are.
    """

    microscope: Literal["sim", "real"] = "sim"
    checkpoint_every: Count = 500
    image_every: Count = 500
    threads: Count | None = 1


class Config(Section):
    """All settings of a run."""

    seed: Annotated[int, Field(ge=0)] = 0
    env: EnvConfig = EnvConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    recogniser: RecogniserConfig = RecogniserConfig()
    agent: AgentConfig = AgentConfig()
    run: RunConfig = RunConfig()
    operation: OperationConfig = OperationConfig()
    budget: BudgetConfig = BudgetConfig()
    faults: FaultConfig | None = None
    real: RealConfig = RealConfig()

    @model_validator(mode="after")
    def _cleans_with_what_there_is(self) -> Config:
        # Otherwise the first crash, perhaps days later, would be the first to ask for it.
        clean, env = self.operation.clean_action, self.env
        # A survey cleans nothing.
        if clean is None or not self.operation.conditioning:
            return self
        allowed = [action.name for action in env.actions if env.may_choose(action)]
        if clean not in allowed:
            where = "env.actions" if env.allowed_actions is None else "env.allowed_actions"
            raise ValueError(
                f"operation.clean_action = {clean!r} is not one of {where}: {', '.join(allowed)}; "
                "null cleans nothing after a crash"
            )
        return self

    def to_yaml(self) -> str:
        """Write the settings as YAML that `load_config` reads back."""
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
        tree = read_yaml(path)
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} must hold settings as 'key: value', not {excerpt(tree)}")
    for override in overrides:
        _set(tree, override)
    return validated(tree)


def validated(tree: Any) -> Config:
    """Build settings from plain values, as YAML holds them.

    Raises:
        ConfigError: One line that names the key, the value and what is allowed.
    """
    drivers = named_in(tree)
    if drivers:
        # An empty section, so that a setting without a default is missed by its own name.
        tree = {**tree, "real": {**{name: {} for name in drivers}, **tree["real"]}}
    model = _config(drivers)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_first_line(error, model)) from error


@functools.cache
def _config(drivers: tuple[str, ...]) -> type[Config]:
    """Make the type of all settings, with a section for each of these drivers from outside."""
    if not drivers:
        return Config
    return create_model("Config", __base__=Config, real=(real_config(drivers), ...))


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"--set takes key=value, for example agent.steps=1000, not {excerpt(override)}"
        )
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {plain(key)}: {excerpt(parent)} has no settings below it")
    tree[last] = parse_yaml(text, f"--set {plain(key)}")


def _first_line(error: ValidationError, model: type[Config]) -> str:
    first = error.errors()[0]
    location = first["loc"]
    key = plain(".".join(str(part) for part in location)) or "settings"
    if first["type"] != "extra_forbidden":
        reason = plain(first["msg"].removeprefix("Value error, "), 500)
        value = first["input"]
        whole_section = first["type"] == "value_error" and isinstance(value, dict | BaseModel)
        found = "" if whole_section else f" = {excerpt(value)}"
        return f"setting {key}{found}: {reason}"
    allowed = list(_section(location[:-1], model).model_fields)
    close = difflib.get_close_matches(str(location[-1])[:80], allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"unknown setting {key} = {excerpt(first['input'])}: {hint}allowed here are "
        f"{', '.join(allowed)}"
    )


def _section(location: tuple[int | str, ...], model: type[Config]) -> type[BaseModel]:
    section: type[BaseModel] = model
    for part in location:
        if part == "actions" or isinstance(part, int):
            section = ActionConfig
            continue
        annotation = section.model_fields[str(part)].annotation
        for choice in (annotation, *get_args(annotation)):
            if isinstance(choice, type) and issubclass(choice, BaseModel):
                section = choice
    return section
