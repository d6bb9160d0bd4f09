"""Previews in a run: in conditioning only, and no figure takes one for an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.analysis.areas import image_count, images_by_label
from spm_gym.analysis.metrics import RunMetrics
from spm_gym.analysis.progress import progress
from spm_gym.analysis.report import overview
from spm_gym.analysis.session import last_session
from spm_gym.analysis.summary import summarise
from spm_gym.config import Config, load_config
from spm_gym.datasets.export import ExportError, export_images
from spm_gym.figures.episode import draw_frames, recorded_episode
from spm_gym.figures.scan_view import scan_view
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import reading
from spm_gym.runner.run_state import read_run_state
from spm_gym.runner.states import State
from spm_gym.web.labelling.candidates import find_candidates
from tests.support.mishaps import Mishap
from tests.support.scripted_runs import Lab, Verdicts, everything, lab

GOOD, BAD, HOPELESS = 0.95, 0.02, 0.001
PREVIEWS = ("env.preview_lines=16", "operation.condition_after=2")


def previewing(
    folder: Path, images: Verdicts, previews: Verdicts, *settings: str, **more: Any
) -> Lab:
    return Lab(folder, images, *PREVIEWS, *settings, previews=previews, **more)


def finished(folder: Path) -> None:
    """Two bad images, three previews of which the last is followed by a good image, two more."""
    with lab(folder, Verdicts(BAD, BAD, GOOD), *PREVIEWS, "operation.scans=5",
             previews=Verdicts(HOPELESS, HOPELESS, 0.5)) as it:  # fmt: skip
        it.runner.run()


def test_a_hopeless_preview_ends_the_step_and_a_promising_one_is_followed_by_its_image(
    tmp_path: Path,
) -> None:
    finished(tmp_path)
    with lab(tmp_path, Verdicts(GOOD), *PREVIEWS, previews=Verdicts(0.5)) as it:
        scans = it.rows("SELECT id, label, lines, fraction < 1 FROM scans")
        partial, image = ("discarded", 64, 1), ("bad probe", 64, 0)
        preview = ("preview", 16, 0)
        assert [scan[1:] for scan in scans] == [
            partial, image, partial, image, preview, preview, preview, ("conditioning", 64, 0),
            partial, ("good", 64, 0), partial, ("good", 64, 0),
        ]  # fmt: skip
        steps = it.rows("SELECT scan, scan_after, reward, terminated FROM steps")
        assert steps == [(4, 5, -1.0, 0), (5, 6, -1.0, 0), (6, 8, 10.0, 1)]
        same = "x, y, size, angle, area, pixels"
        assert it.rows(f"SELECT {same} FROM scans WHERE id = 7") == it.rows(
            f"SELECT {same} FROM scans WHERE id = 8"
        )
        assert it.rows("SELECT outcome, actions FROM episodes") == [("good", 3)]


def test_the_probability_of_a_preview_is_kept_apart(tmp_path: Path) -> None:
    finished(tmp_path)
    with lab(tmp_path, Verdicts(GOOD), *PREVIEWS, previews=Verdicts(0.5)) as it:
        kept = it.rows("SELECT probability IS NULL, preview_probability, clean_side > 0 FROM scans"
                       " WHERE lines < pixels")  # fmt: skip
        assert kept == [(1, pytest.approx(HOPELESS), 1)] * 2 + [(1, pytest.approx(0.5), 1)]
        assert it.rows("SELECT COUNT(probability), COUNT(preview_probability) FROM scans"
                       " WHERE lines = pixels AND fraction = 1") == [(5, 0)]  # fmt: skip


def test_no_figure_of_a_run_counts_previews_as_images(tmp_path: Path) -> None:
    finished(tmp_path)
    figures = summarise(tmp_path)
    # Without a command around the run there is no session.
    assert not [each for each in figures.inconsistencies if "session" not in each]
    assert (figures.images, figures.labels["preview"]) == (5, 3)
    assert figures.share_good == 0.5
    with reading(tmp_path) as db:
        run_state = read_run_state(db)
        assert run_state is not None
        assert run_state.imaging.images == 5
        assert run_state.counters["preview"] == 3
        assert image_count(db) == 5
        found = progress(db, run_state, last_session(db), None)
        assert (found.images, found.good, found.classified) == (5, 2, 4)
        assert overview(db).images == 5
        assert overview(db).labels["preview"] == (3, 0, None)
        assert images_by_label(db, 0)["preview"] == 3
    metrics = RunMetrics(tmp_path, [action.name for action in Config().env.actions])
    moments = list(metrics)
    metrics.close()
    assert max(moment.step for moment in moments) == 5
    [end] = [moment for moment in moments if "episode/length" in moment.values]
    assert sum(v for name, v in end.values.items() if name.startswith("actions/")) == 3


def test_nobody_is_asked_to_label_a_preview_nor_is_one_exported(tmp_path: Path) -> None:
    run = tmp_path / "run"
    finished(run)
    with reading(run) as db:
        previews = {file for (file,) in db.execute("SELECT file FROM scans WHERE lines < pixels")}
    assert len(find_candidates(run)) == 5
    assert not previews & {candidate.file for candidate in find_candidates(run)}
    exported = export_images(run, tmp_path / "images", Config().env, "classifier", True)
    assert exported.left_out["preview"] == 3
    with pytest.raises(ExportError):
        export_images(run, tmp_path / "images", Config().env, "classifier")


def test_a_preview_is_drawn_as_what_it_is(tmp_path: Path) -> None:
    finished(tmp_path)
    config = load_config(None, list(PREVIEWS)).env
    with reading(tmp_path) as db:
        frames = recorded_episode(db, tmp_path, None, config)
        view = scan_view(db, tmp_path, None, 5, Preprocessing.of(config))
        assert view is not None
        assert (view.label, view.facts.number, view.problem) == ("preview", 0, "")
        assert view.square is not None
        side = view.facts.row["clean_side"]
        assert view.square.metres == pytest.approx(side)
    shapes = [still.image.shape for still in frames.stills]
    assert shapes == [(64, 64), (16, 64), (16, 64), (64, 64)]
    assert [still.is_good(0.9) for still in frames.stills] == [False, False, False, True]
    assert [still.probability for still in frames.stills[1:3]] == pytest.approx([HOPELESS] * 2)
    assert len(list(draw_frames(frames, 40))) == 4


def test_a_preview_that_shows_trouble_is_recovered_from_and_taken_again(tmp_path: Path) -> None:
    # Two images with their partial ones come before.
    microscope = Mishap(scan={5: "lost contact"})
    made = previewing(tmp_path, Verdicts(BAD), Verdicts(HOPELESS), "operation.scans=3",
                      "env.max_steps=2", microscope=microscope)  # fmt: skip
    made.runner.run()
    labels = made.rows("SELECT label, reason, x, y FROM scans WHERE lines < pixels ORDER BY id")
    assert [row[:2] for row in labels] == [("preview", "lost contact"), *[("preview", "")] * 2]
    assert labels[0][2:] == labels[1][2:]
    troubles = made.rows("SELECT trouble, detail, result FROM recoveries")
    assert troubles == [("lost contact", "seen in the preview", "recovered")]
    made.journal.close()


def test_a_preview_on_bad_sample_sends_the_run_on(tmp_path: Path) -> None:
    made = previewing(tmp_path, Verdicts(BAD), Verdicts(HOPELESS), "simulator.rough_fraction=0.4",
                      "env.max_steps=12", "operation.scans=7")  # fmt: skip
    made.runner.run()
    reasons = made.rows("SELECT reason, COUNT(*) FROM scans WHERE lines < pixels GROUP BY 1")
    assert dict(reasons)["rough sample"] > 0
    assert made.rows("SELECT COUNT(*) FROM scans WHERE lines < pixels AND label <> 'preview'") == [
        (0,)
    ]
    made.journal.close()


def test_the_budget_is_not_calmed_by_a_preview(tmp_path: Path) -> None:
    made = previewing(tmp_path, Verdicts(BAD), Verdicts(GOOD), "budget.unproven_actions=3")
    outcome = made.runner.run()
    assert outcome.failed
    assert "budget.unproven_actions" in outcome.ending
    made.journal.close()


WORLD = ("env.ground_truth=true", "simulator.tip_change_rate=0.15",
         "simulator.contact_loss_rate=0.02", "simulator.crash_rate=0.02",
         "simulator.rough_fraction=0.1", "env.regions.area_nm=100",
         "operation.scans=40")  # fmt: skip


def lively(folder: Path) -> Lab:
    made = previewing(folder, Verdicts(GOOD), Verdicts(GOOD), *WORLD)
    truth = made.microscope

    def classify(images: np.ndarray) -> np.ndarray:
        return np.full(len(images), truth.truth.good, np.float32)

    made.env.classifier = made.env.preview_classifier = classify
    return made


def test_a_run_cut_into_pieces_is_the_run_in_one_piece(tmp_path: Path) -> None:
    whole = lively(tmp_path / "whole")
    whole.runner.run()
    whole.journal.close()
    rng = np.random.default_rng(0)
    cut: set[State] = set()
    while True:
        piece = lively(tmp_path / "pieces")
        for _ in range(int(rng.integers(1, 20))):
            if piece.runner.state is not State.STOP:
                piece.runner.step()
        cut.add(piece.runner.state)
        if piece.runner.state is State.STOP:
            piece.runner.run()
            break
        piece.journal.close()
    piece.journal.close()
    one, other = everything(tmp_path / "whole"), everything(tmp_path / "pieces")
    assert {State.PARTIAL, State.IMAGE, State.DIAGNOSE, State.CLASSIFY} <= cut
    assert len(one["steps"]) > 5
    for table in one:
        assert one[table] == other[table], table
