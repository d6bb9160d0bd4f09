"""Pictures of scan files, for ``spm-gym show``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.classifier import ProbeClassifier
from spm_gym.analysis.scan_findings import ScanClassifier, Subject, examine, verdict
from spm_gym.assembly.pictures import Picture
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import EnvConfig
from spm_gym.errors import UsageError
from spm_gym.figures.canvas import save
from spm_gym.figures.contact_sheet import MOST, draw_sheet
from spm_gym.figures.scan import draw_scan
from spm_gym.imaging.conditions import with_height_scale
from spm_gym.imaging.files import READERS, FileFormatError, read_topography
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.scale import NM, tunnelling_text

_MOST_PROBLEMS = 5


def load_classifier(path: Path | None, env: EnvConfig) -> ScanClassifier:
    """Load the classifier in a file; None: that of the package.

    Raises:
        ClassifierError: It cannot be read.
        ConfigError: It was trained with another height scale than the settings have.
    """
    classifier = ProbeClassifier.load(path or shipped_classifier())
    scale = Preprocessing.of(with_height_scale(env, classifier)).scale
    return ScanClassifier(classifier, classifier.network.pixels, scale)


def of_scans(
    paths: Sequence[Path], weights: Path | None, size_nm: float | None, env: EnvConfig
) -> Picture:
    """Draw one scan, or a contact sheet of several files or of a folder.

    Args:
        paths: What the command line names.
        weights: Of the classifier; None for that of the settings.
        size_nm: Width of images whose file does not say it.
        env: The settings.
    """
    classifier = load_classifier(weights or env.classifier, env)
    if len(paths) == 1 and paths[0].is_file():
        subject = _read(paths[0], size_nm)

        def write(output: Path) -> None:
            findings = examine(subject, classifier, env)
            save(draw_scan(subject, findings, env.good_above), output)
            print(verdict(subject, findings, env.good_above))

        return Picture(paths[0].stem, write)
    files = [file for path in paths for file in _files(path)]
    name = paths[0].resolve().name if len(paths) == 1 else "sheet"
    return Picture(
        f"{name}_sheet" if len(paths) == 1 else name,
        lambda output: _write_sheet(files, name, classifier, size_nm, env, output),
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(each for each in path.iterdir() if each.suffix.lower() in READERS)
    # Hidden files are those of programs: what macOS leaves beside every file has its ending, too.
    return [each for each in found if not each.name.startswith(".")]


def _read(path: Path, size_nm: float | None) -> Subject:
    # Also scans of which little was scanned are drawn, unlike in training.
    found = read_topography(path, min_finite=0.0)
    width, height = found.width, found.height
    if size_nm is not None:
        if width is not None:
            raise UsageError(f"{path} says that it is {width * 1e9:g} nm wide: leave out --size-nm")
        width = size_nm * NM
        height = width * found.z.shape[0] / found.z.shape[1]
    about = tunnelling_text(found.bias, found.setpoint)
    return Subject(path.name, found.z, width, height, about=about, feedback=found.feedback)


def _write_sheet(
    files: Sequence[Path],
    name: str,
    classifier: ScanClassifier,
    size_nm: float | None,
    env: EnvConfig,
    output: Path,
) -> None:
    scans, problems = [], []
    for path in files[:MOST]:
        try:
            subject = _read(path, size_nm)
        except FileFormatError as error:
            problems.append(str(error))
        else:
            scans.append((subject, examine(subject, classifier, env)))
    if not scans:
        raise UsageError(f"none of the files can be read; the first: {problems[0]}")
    save(draw_sheet(scans, env.good_above, name, max(len(files) - MOST, 0)), output)
    for problem in problems[:_MOST_PROBLEMS]:
        print(f"unreadable: {problem}")
    if len(problems) > _MOST_PROBLEMS:
        print(f"and {len(problems) - _MOST_PROBLEMS} more")
