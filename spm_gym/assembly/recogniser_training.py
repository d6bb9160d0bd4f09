"""One training run of the recogniser, on simulated images."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents.belief.recogniser import Recogniser
from agents.belief.recogniser_report import RecogniserScore, report_table, score_recogniser
from agents.belief.recogniser_training import fit_recogniser
from agents.summaries import write_closing, write_opening
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recogniser_images import randomised_images, settings_hash, validation_images
from spm_gym.assembly.run_directory import TENSORBOARD
from spm_gym.atomic_file import written_whole
from spm_gym.config import Config, ConfigError
from spm_gym.figures.canvas import save
from spm_gym.figures.confusion import draw_confusion
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.sim.dynamics import STATES
from spm_gym.paths import as_typed


def train_recogniser(
    config: Config,
    create_run: Callable[[], AbstractContextManager[Path]],
    output: Path | None,
) -> int:
    """Train on simulated images and previews of randomised settings, and score the result.

    Args:
        config: Settings of the run.
        create_run: Makes the run directory, which gets the recogniser and its report, and keeps it
            from others.
        output: Where else to write the recogniser.

    Returns:
        Exit status.

    Raises:
        ConfigError: The lines of a preview do not divide the image.
    """
    prepare_process(config.run.threads)
    _check_line_steps(config)
    settings = config.recogniser
    with create_run() as run, SummaryWriter(str(run / TENSORBOARD)) as writer:
        write_opening(writer, config, "recogniser", run)
        with _bar("images", settings.images, "image") as bar:
            images = randomised_images(config, settings.images, config.seed, bar.update)
        with _bar("recogniser", settings.epochs, "epoch") as bar:

            def note(epoch: int, loss: float) -> None:
                bar.set_postfix(loss=f"{loss:.4f}")
                bar.update()
                writer.add_scalar("recogniser/loss", loss, epoch - 1)

            recogniser = fit_recogniser(
                images, STATES, settings_hash(config), config.seed, settings, note
            )
        recogniser.height_scale = Preprocessing.of(config.env).scale
        scores = _score(recogniser, config)
        _write_report(recogniser, scores, run)
        write_closing(writer)
        recogniser.save(run / "recogniser.safetensors")
        if output is not None:
            recogniser.save(output)
    print(report_table(scores))
    written = output or run / "recogniser.safetensors"
    print(f"trained on {settings.images} images: {as_typed(written)}")
    return 0


def _check_line_steps(config: Config) -> None:
    pixels = config.env.pixels
    for step in config.recogniser.line_steps:
        if pixels % step:
            raise ConfigError(
                f"setting recogniser.line_steps: {step} does not divide env.pixels = {pixels}"
            )


def _score(recogniser: Recogniser, config: Config) -> dict[int, RecogniserScore]:
    """Score by number of lines on other images, and keep the figures with the recogniser."""
    total = config.recogniser.validation_images * len({*config.recogniser.line_steps})
    with _bar("validation", total, "image") as bar:
        images = validation_images(config, config.seed, bar.update)
    scores = {lines: score_recogniser(recogniser, data) for lines, data in images.items()}
    recogniser.summary["validation"] = {
        str(lines): score.figures() for lines, score in scores.items()
    }
    return scores


def _write_report(recogniser: Recogniser, scores: dict[int, RecogniserScore], run: Path) -> None:
    with written_whole(run / "report.json") as beside:
        beside.write_text(json.dumps(recogniser.summary, indent=1) + "\n", encoding="utf-8")
    matrices = {lines: score.confusion for lines, score in scores.items()}
    save(draw_confusion(matrices), run / "report.png")


def _bar(what: str, total: int, unit: str) -> tqdm:
    return tqdm(total=total, desc=what, unit=unit, mininterval=1)
