"""Notices of an environment's single steps, for a record of them."""

from __future__ import annotations

from spm_gym.envs.observation import ProcessedScan
from spm_gym.errors import UnclassifiableImage
from spm_gym.imaging import Diagnosis
from spm_gym.types import Frame, Scan


class EnvObserver:
    """Is called by `spm_gym.envs.probe_conditioning.ProbeConditioningEnv`; ignores everything.

    A subclass overrides what it is interested in. An `spm_gym.errors.InstrumentError` that it
    raises before a scan or an action ends the step as one of the microscope would.
    """

    def before_scan(self, frame: Frame) -> None:
        """Take notice that a frame is scanned next."""

    def after_partial(self, scan: Scan) -> None:
        """Take notice of a partial image that is discarded."""

    def after_scan(
        self, scan: Scan, outcome: ProcessedScan | Diagnosis | UnclassifiableImage
    ) -> None:
        """Take notice of an image or a preview, and of its outcome."""

    def before_act(self, action: int) -> None:
        """Take notice that an action of this number was chosen."""

    def after_act(self) -> None:
        """Take notice that it was carried out or refused, or that nobody knows."""

    def after_step(self, reward: float, terminated: bool, truncated: bool) -> None:
        """Take notice of the result of a step, whose last image is the present one."""
