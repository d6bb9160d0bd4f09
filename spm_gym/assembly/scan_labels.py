"""Labels of the scans of a training, in the words of a run."""

from __future__ import annotations

from spm_gym.envs.observation import ProcessedScan
from spm_gym.errors import UnclassifiableImage
from spm_gym.imaging import Diagnosis
from spm_gym.journal.reader import Label
from spm_gym.types import Scan


def scan_label(
    scan: Scan, outcome: ProcessedScan | Diagnosis | UnclassifiableImage
) -> tuple[Label, str]:
    """Give the label of an image or a preview by its outcome, and the reason; "" for none.

    No image is "good" or "bad probe": these labels mean images between two conditionings, whose
    share says how long a tip lasts, and in a training there are none.
    """
    preview = scan.frame.is_preview
    if isinstance(outcome, ProcessedScan):
        label = Label.UNKNOWN if outcome.unknown else Label.CONDITIONING
        # Of a preview the label says that it is one, and the reason what it came to.
        return (Label.PREVIEW, Label.UNKNOWN if outcome.unknown else "") if preview else (label, "")
    if isinstance(outcome, Diagnosis):
        label, reason = Label.UNUSABLE, outcome.value
        if outcome is Diagnosis.ROUGH:
            label = Label.BAD_SAMPLE
    else:
        label, reason = Label.UNUSABLE, "not classified"
    return Label.PREVIEW if preview else label, reason
