"""The classifier of the settings, and whether it is for the images that they describe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_gym.assembly.drivers import capabilities
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config, ConfigError
from spm_gym.imaging.conditions import (
    TrainingConditions,
    classifier_findings,
    with_height_scale,
)
from spm_gym.imaging.fitting import fitted
from spm_gym.imaging.observed import read_observed
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.scale import NM, PA
from spm_gym.types import Classifier, Frame, Scan


def build_classifier(config: Config, microscope: Instrument | None = None) -> Classifier:
    """Build the configured classifier of images.

    Args:
        config: All settings.
        microscope: Whose images it will classify; None for a real one that is not connected yet.

    Raises:
        ConfigError: The ground truth was asked for where there is no simulated microscope, or the
            settings show that images will differ from those that the classifier was trained for.
            What a real microscope has to say of that is left to `classifier_findings`.
        ClassifierError: The classifier cannot be read.
    """
    if config.env.ground_truth:
        if not isinstance(microscope, SimulatedMicroscope):
            raise ConfigError("setting env.ground_truth = True: only the simulator knows the truth")
        return GroundTruth(microscope)
    import torch  # slow to import

    from agents.classifier import ProbeClassifier

    if config.run.threads is not None:
        # With torch's own choice, all cores, classifying is eight times slower on a busy host.
        torch.set_num_threads(config.run.threads)
    classifier = ProbeClassifier.load(config.env.classifier or shipped_classifier())
    config = fitted_settings(config, classifier)  # refuses another scale or size
    found = _settings_findings(classifier.conditions, config, microscope)
    if found:
        raise ConfigError(f"the classifier is not for these images: {'; '.join(found)}")
    return classifier


def with_classifier_scale(config: Config) -> Config:
    """Fill in the height scale of the configured classifier, where the settings have none.

    Raises:
        ClassifierError: The classifier cannot be read.
        ConfigError: It was trained with another height scale than the settings have.
    """
    env = with_height_scale(config.env, *_configured(config))
    return config.model_copy(update={"env": env})


def fitted_to_classifier(config: Config) -> Config:
    """Fill in height scale and observations for the configured classifier.

    So that a run directory says by itself how its images were prepared, whatever becomes of the
    file of its classifier.

    Raises:
        ClassifierError: The classifier cannot be read.
        ConfigError: It takes no images such as those of the settings.
    """
    return fitted_settings(config, *_configured(config))


def fitted_settings(config: Config, *classifiers: Classifier) -> Config:
    """Fill in height scale and observations for classifiers, as `fitted`."""
    return config.model_copy(update={"env": fitted(config.env, *classifiers)})


def _configured(config: Config) -> list[Classifier]:
    if config.env.ground_truth:
        return []
    from agents.classifier import ProbeClassifier  # torch is slow to import

    return [ProbeClassifier.load(config.env.classifier or shipped_classifier())]


def check_classifier(config: Config) -> None:
    """See that the classifier of a real microscope takes the images of these settings.

    Raises:
        ConfigError: It needs the simulator, or takes other images.
        ClassifierError: It cannot be read.
    """
    classifier = build_classifier(config)
    # A forward pass, since a network that is loaded may still not take images of this size.
    classifier(read_blank(fitted_settings(config, classifier))[None])


def read_blank(config: Config) -> NDArray[np.float32]:
    """Read an empty image of these settings and return its observation, (1, side, side).

    So that nothing is compiled for half a minute with the tip in contact.
    """
    frame = Frame(0.0, 0.0, config.env.image_nm * NM, config.env.pixels)
    blank = Scan(frame, np.zeros(frame.shape, np.float32))
    return np.asarray(read_observed([blank], config.env).observations[0])


def no_classifier(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stand in for the classifier of a survey, which has none and asks none.

    Raises:
        AssertionError: Something asks all the same: a fault of this program.
    """
    raise AssertionError("a survey classifies nothing")


def configured_imaging(config: Config) -> tuple[float, float]:
    """Read bias (V) and setpoint (A) of a real microscope's images; NaN for the operator's."""
    bias, setpoint = config.real.imaging.bias_V, config.real.imaging.setpoint_pA
    return (
        math.nan if bias is None else bias,
        math.nan if setpoint is None else setpoint * PA,
    )


def _settings_findings(
    conditions: TrainingConditions, config: Config, microscope: Instrument | None
) -> list[str]:
    """List reasons against a classifier as far as the settings alone say."""
    if isinstance(microscope, SimulatedMicroscope):
        found = classifier_findings(
            conditions, config, microscope.bias, microscope.setpoint, "simulated"
        )
        return list(found.values())
    bias, setpoint = configured_imaging(config)
    found = classifier_findings(conditions, config, bias, setpoint, "real")
    # The instrument may be a virtual one, and can say what the settings leave to the operator.
    unsettled = {"origin"}
    if capabilities(config.real).status:
        unsettled |= {"bias"} if math.isnan(bias) and conditions.bias else set()
        unsettled |= {"setpoint"} if math.isnan(setpoint) and conditions.setpoint else set()
    return [text for name, text in found.items() if name not in unsettled]


@dataclass(frozen=True)
class GroundTruth:
    """The hidden state in place of a classifier; a class, so that environments can be pickled."""

    microscope: SimulatedMicroscope

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give 1 for every image if the probe is good in truth, otherwise 0."""
        return np.full(len(images), self.microscope.truth.good, dtype=np.float32)
