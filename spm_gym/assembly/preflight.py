"""The look before a run on a microscope: what it will use, and why it would be refused.

`spm-gym check` prints it; run, train and evaluate look in the same way before they touch anything,
so that what is ready for the one is ready for the others.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spm_gym.analysis.wording import SURVEY
from spm_gym.assembly.classifier import (
    build_classifier,
    check_classifier,
    fitted_settings,
    fitted_to_classifier,
)
from spm_gym.assembly.drivers import capabilities, check_limits, find_driver
from spm_gym.assembly.previews import build_preview_classifier, check_previews
from spm_gym.assembly.shipped_weights import shipped_agent, shipped_classifier
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, ConfigError
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import InstrumentError, UsageError
from spm_gym.imaging.conditions import classifier_findings, conditions_of, described
from spm_gym.imaging.image_size import reduction_text
from spm_gym.imaging.normalisation import scale_text
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.driver import Finding, Inspection
from spm_gym.runner.interlocks import described_interlock
from spm_gym.scale import duration_text

Purpose = Literal["run", "train", "evaluate"]


def preflight(config: Config, purpose: Purpose, kept: Path | None = None) -> list[Finding]:
    """Look at the microscope and at what a command would do with it; moves and changes nothing.

    Args:
        config: Settings of the run.
        purpose: The command.
        kept: Where the run that is to begin keeps the operator's settings.

    Raises:
        ConfigError: There is no such driver.
        InstrumentError: The microscope does not answer.
    """
    inspection = find_driver(config.real).preflight(config.real, config.env, kept)
    findings = [*inspection.findings, *_missing(config), _limits(config)]
    if not config.operation.conditioning:
        return [*findings, _survey(purpose)]
    findings += [*_previews(config), *_classifier(config, inspection)]
    if purpose == "run":
        findings += [_agent(config), *_when_good(config), *_holds(config)]
    return findings


def refuse_troubles(findings: list[Finding]) -> None:
    """End the command if a run would be refused.

    Raises:
        UsageError: Names every trouble.
    """
    # All at once: at an instrument every start takes minutes.
    troubles = [f"{finding.what}: {finding.text}" for finding in findings if finding.trouble]
    if troubles:
        raise UsageError(
            f"the microscope is not ready, and nothing was moved or changed: {'; '.join(troubles)}"
        )


def _missing(config: Config) -> list[Finding]:
    """List what the driver cannot do: nothing that it cannot is to be promised."""
    return [
        Finding(name.replace("_", " "), f"{config.real.driver} {what}")
        for name, what in capabilities(config.real).missing().items()
    ]


def _survey(purpose: Purpose) -> Finding:
    if purpose == "run":
        return Finding("run", f"a {SURVEY} (operation.conditioning = false)")
    return Finding(
        "conditioning",
        f"operation.conditioning = false allows no pulse and no dip, and '{purpose}' needs them",
        trouble=True,
    )


def _previews(config: Config) -> list[Finding]:
    try:
        check_previews(config)
    except ConfigError as error:
        return [Finding("previews", str(error), trouble=True)]
    return []


def check_when_good(config: Config) -> None:
    """See that there is the program that a good tip is to be handed to, and that it can be.

    Raises:
        ConfigError: There is not, or it cannot.
    """
    settings = config.operation
    name = f"setting operation.when_good = {settings.when_good!r}"
    if settings.program is not None and shutil.which(settings.program[0]) is None:
        raise ConfigError(
            f"{name}: there is no program {settings.program[0]!r}; it is scan, stop, or the "
            "command line of a program"
        )
    if settings.when_good == "scan" or config.run.microscope != "real":
        return
    able = capabilities(config.real)
    if not able.lend:
        raise ConfigError(f"{name}: the driver {config.real.driver} {able.why_not('lend')}")


def check_interlocks(config: Config) -> None:
    """See that the driver of the settings can read the signals of interlocks.

    Raises:
        ConfigError: It cannot.
    """
    if not config.operation.interlocks:
        return
    if config.run.microscope != "real":
        raise ConfigError(
            "setting operation.interlocks: a simulated microscope has no such signals; they go "
            "with --env real"
        )
    able = capabilities(config.real)
    if not able.signals:
        raise ConfigError(
            f"setting operation.interlocks: the driver {config.real.driver} "
            f"{able.why_not('signals')}"
        )


def _holds(config: Config) -> list[Finding]:
    """Say what may pause or end a run besides people."""
    settings = config.operation
    try:
        check_interlocks(config)
    except ConfigError as error:
        return [Finding("interlocks", str(error), trouble=True)]
    findings = [Finding("interlock", described_interlock(each)) for each in settings.interlocks]
    if settings.quiet_hours:
        zone = settings.time_zone or "the computer's time"
        findings.append(Finding("quiet hours", f"{', '.join(settings.quiet_hours)}, {zone}"))
    return findings


def _when_good(config: Config) -> list[Finding]:
    settings = config.operation
    try:
        check_when_good(config)
    except ConfigError as error:
        return [Finding("when good", str(error), trouble=True)]
    if settings.when_good == "scan":
        return []
    text = "the run ends, with the tip left at the surface"
    if settings.program is not None:
        text = (
            f"{settings.when_good} has the tip, for {duration_text(settings.program_s)} at most; "
            "what it does, no limit of real.limits bounds"
        )
    return [Finding("when good", text)]


def _limits(config: Config) -> Finding:
    try:
        check_limits(config)
    except InstrumentError as error:
        return Finding("limits", str(error), trouble=True)
    return Finding("limits", "images and actions lie within them")


def _classifier(config: Config, inspection: Inspection) -> list[Finding]:
    file = config.env.classifier or shipped_classifier()
    whose = "the one in the package" if config.env.classifier is None else str(file)
    try:
        check_classifier(config)
        classifier = build_classifier(config)
        config = fitted_settings(config, classifier)
        build_preview_classifier(config, classifier)
        conditions = conditions_of(classifier)
    except (InstrumentError, ValueError) as error:
        return [Finding("classifier", f"{whose}: {error}", trouble=True)]
    assert conditions is not None, "the true classifier is refused before"
    trained = ", ".join(f"{name} {value}" for name, value in described(conditions))
    trained += f", height scale {scale_text(Preprocessing.of(config.env).scale)}"
    accepted = ", ".join(config.env.accept_mismatch)
    note = f"; accepted though it does not fit: {accepted}" if accepted else ""
    if reduced := reduction_text(config.env):
        note += f"; of the images it gets {reduced}"
    found = classifier_findings(
        conditions,
        config,
        inspection.bias,
        inspection.setpoint,
        # A virtual Nanonis says what it is: its images are simulated, however it is reached.
        "simulated" if inspection.simulated else "real",
    )
    return [
        Finding("classifier", f"{whose}: {trained}{note}"),
        *(Finding("classifier", text, trouble=True) for text in found.values()),
    ]


def _agent(config: Config) -> Finding:
    settings = config.operation
    if settings.policy == "random":
        return Finding("agent", "none: random choice (operation.policy)")
    from spm_gym.assembly.agent import load_agent  # torch is slow to import

    whose = "the one in the package" if settings.agent is None else str(settings.agent)
    with suppress(ValueError):  # what is wrong with the classifier was found before
        config = fitted_to_classifier(config)
    try:
        microscope = build_microscope(config)
        # Whether the agent fits is a matter of shapes: nothing is classified here.
        env = ProbeConditioningEnv(
            microscope, _no_classifier, config.env, preview_classifier=_no_classifier
        )
        load_agent(config, env)
    except (UsageError, ValueError) as error:
        file = settings.agent or shipped_agent()
        return Finding("agent", f"{file}: {error}", trouble=True)
    learns = "goes on learning" if settings.learn else "stays as it is"
    pixels = config.env.observed[1]
    return Finding("agent", f"{whose}, for {pixels} x {pixels} px; it {learns}")


def _no_classifier(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images[:, 0, 0, 0]
