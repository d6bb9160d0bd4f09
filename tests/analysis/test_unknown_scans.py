"""A single scan that the classifier does not know, in words and pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from spm_gym.analysis.scan_findings import ScanClassifier, Subject, examine, verdict
from spm_gym.assembly.pictures import scans
from spm_gym.colours import INK
from spm_gym.config import EnvConfig
from spm_gym.figures.contact_sheet import draw_sheet
from spm_gym.figures.episode import EpisodeFrames, Still, draw_still
from spm_gym.figures.networks import draw_verdicts
from spm_gym.figures.scan import draw_scan
from spm_gym.imaging import Square
from tests.support.labelling import scan
from tests.support.scripted_runs import Verdicts
from tests.support.showing import show_command

UNKNOWN = ScanClassifier(Verdicts(math.nan), 64)


def test_it_counts_as_neither_good_nor_bad_in_words_and_pictures() -> None:
    subject = Subject("first", scan(0))
    findings = examine(subject, UNKNOWN, EnvConfig())
    assert findings.unknown
    said = verdict(subject, findings, 0.9)
    assert "unknown: the image is unlike all that the classifier was trained with" in said
    assert "neither good nor bad" in said
    picture = " ".join(draw_scan(subject, findings, 0.9).get_supxlabel().split())
    assert "Unknown: the image is unlike all" in picture
    [caption] = draw_sheet([(subject, findings)], 0.9, "sheet").axes[0].texts
    assert caption.get_text() == "first\ngrey 300 pm  unknown"
    assert caption.get_color() == INK
    for text in (said, picture, caption.get_text()):
        assert "nan" not in text.lower().split()


def test_show_says_it_in_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scans, "load_classifier", lambda path, env: UNKNOWN)
    np.save("first.npy", scan(0))
    assert show_command(Path("first.npy")) == 0
    assert "unlike all that the classifier was trained with" in capsys.readouterr().out
    np.save("second.npy", scan(1))
    assert show_command(Path("first.npy"), "second.npy") == 0


def test_pictures_of_networks_and_episodes_say_it() -> None:
    images = np.zeros((16, 64, 64), np.float32)
    answers = np.array([math.nan, *[0.5] * 15], np.float32)
    titles = [axes.get_title() for axes in draw_verdicts(images, answers, 0.9).axes]
    assert [title.partition("\n")[2] for title in titles[:2]] == ["p = unknown", "p = 0.500"]
    stills = [
        Still(images[0], 1e-8, Square(0, 0, 8), probability) for probability in (0.1, math.nan)
    ]
    figure = draw_still(EpisodeFrames("episode", ["stall"], 0.9, stills, "300 pm"), 1, 40)
    assert any("probability of a good probe: unknown" in axes.get_title() for axes in figure.axes)
    figure.canvas.draw()
