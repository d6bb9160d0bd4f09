"""Every view of a run says which images are unknown, and counts them as neither good nor bad."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from spm_gym.analysis.metrics import RunMetrics
from spm_gym.analysis.progress import progress
from spm_gym.analysis.report import overview
from spm_gym.analysis.scans import unknown_times
from spm_gym.analysis.session import last_session
from spm_gym.analysis.status import status_of
from spm_gym.analysis.summary import summarise
from spm_gym.cli import main
from spm_gym.config import Config
from spm_gym.datasets.export import export_images
from spm_gym.figures.canvas import save
from spm_gym.figures.mosaic import PaintLog
from spm_gym.figures.overview import draw_overview, draw_timeline
from spm_gym.figures.scan_view import scan_view
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import reading
from spm_gym.runner.run_state import read_run_state
from spm_gym.web.labelling.candidates import find_candidates
from spm_gym.web.report import render_report
from tests.support.scripted_runs import Verdicts, lab, with_unknown_images


def finished(folder: Path) -> None:
    it = with_unknown_images(folder)
    it.runner.run()
    it.journal.close()


def test_every_figure_counts_them_as_neither_good_nor_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path)
    figures = summarise(tmp_path)
    # Without a command around the run there is no session.
    assert not [each for each in figures.inconsistencies if "session" not in each]
    assert (figures.images, figures.labels["unknown"]) == (10, 4)
    assert figures.share_good == 0.5
    main(["journal", str(tmp_path), "--json"])
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed["labels"]["unknown"] == 4
    main(["journal", str(tmp_path)])
    assert "unknown 4" in capsys.readouterr().out
    with reading(tmp_path) as db:
        found = progress(db, read_run_state(db), last_session(db), None)
        assert (found.images, found.good, found.classified, found.unknown) == (10, 2, 4, 4)
        assert overview(db).labels["unknown"] == (4, 4, None)
        assert (overview(db).unknown, overview(db).classified) == (4, 4)
        assert len(unknown_times(db)) == 4
    metrics = RunMetrics(tmp_path, [action.name for action in Config().env.actions])
    moments = [moment for moment in metrics if "yield/good" in moment.values]
    metrics.close()
    assert [moment.values["yield/unknown"] for moment in moments] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
    without = [moment.step for moment in moments if "image/probability" not in moment.values]
    assert without == [2, 4, 6, 8]
    assert all(math.isfinite(value) for moment in moments for value in moment.values.values())


def test_pages_and_pictures_say_unknown(tmp_path: Path) -> None:
    run = tmp_path / "run"
    finished(run)
    page = render_report(run).html
    assert re.search(r'unknown</th><td class="n">4</td><td class="n">4</td>', page)
    assert "unlike all that the classifier was trained with" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    env = Config().env
    with reading(run) as db:
        view = scan_view(db, run, None, 4, Preprocessing.of(env))
        assert view is not None
        assert (view.label, view.facts.unknown, view.facts.number) == ("unknown", True, 2)
        for figure in (
            draw_overview(db, run, env.good_above, PaintLog(Preprocessing.of(env))),
            draw_timeline(db, run, env.good_above),
        ):
            texts = [text.get_text() for axes in _axes(figure) for text in _legend(axes)]
            assert "unknown" in texts
            save(figure, tmp_path / "picture.png")


def _axes(figure: Any) -> list[Any]:
    return [*figure.axes, *(axes for part in figure.subfigs for axes in part.axes)]


def _legend(axes: Any) -> list[Any]:
    legend = axes.get_legend()
    return [] if legend is None else legend.get_texts()


def test_the_live_page_says_how_many_in_a_row_there_are(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(0.95, math.nan)) as it:
        while it.runner.run_state.imaging.unknown < 2:
            it.runner.step()
        it.journal.keep()
        with reading(tmp_path) as db:
            said = status_of(db, it.runner.run_state, last_session(db), True, str(tmp_path))
            assert "does not know: 2" in said.why


def test_people_are_asked_about_unknown_images_and_no_export_guesses_their_label(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    finished(run)
    with reading(run) as db:
        unknown = {file for (file,) in db.execute("SELECT file FROM scans WHERE label = 'unknown'")}
    assert unknown < {candidate.file for candidate in find_candidates(run)}
    exported = export_images(run, tmp_path / "images", Config().env, "classifier", True)
    assert exported.left_out["unknown"] == 4
    manifest = (tmp_path / "images" / "manifest.csv").read_text()
    assert "nan" not in manifest
    assert not any(Path(file).name in manifest for file in unknown)


def test_an_unknown_image_with_a_probability_is_an_inconsistency(tmp_path: Path) -> None:
    finished(tmp_path)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db, db:
        db.execute("UPDATE scans SET probability = 0.5 WHERE id = 4")
    assert "scan 4: unknown, yet its probability is 0.5" in summarise(tmp_path).inconsistencies
