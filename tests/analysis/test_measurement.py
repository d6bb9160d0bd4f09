"""Bias and setpoint of the data, on every page and in pictures."""

from __future__ import annotations

import html
import math
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from spm_gym.analysis.measurement import Spread, measurement
from spm_gym.figures.report_charts import known_letters
from spm_gym.imaging.files import write_gsf
from spm_gym.journal.reader import Label, reading
from spm_gym.scale import tunnelling_text
from spm_gym.types import Frame, Scan
from spm_gym.web.monitor_words import spread
from spm_gym.web.report import render_report
from tests.support.invented_runs import NM, InventedRun
from tests.support.labelling import page_for, scan
from tests.support.watching import watched


def words(text: str) -> str:
    return " ".join(html.unescape(text).replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Spread(1.0, 1.0, 0), "1 V"),
        (Spread(1.0, 1.0 + 1e-9, 0), "1 V"),
        (Spread(-1.2, 1.0, 0), "−1.2 V to 1 V"),
        (Spread(1.0, 1.0, 1), "1 V, of 1 scan unknown"),
        (Spread(0.5, 1.0, 3), "500 mV to 1 V, of 3 scans unknown"),
        (Spread(None, None, 7), "unknown"),
        (Spread(None, None, 0), "unknown"),
    ],
)
def test_it_is_said_in_words(found: Spread, expected: str) -> None:
    assert words(spread(found, "V")) == expected


def test_pages_state_what_has_changed(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.9, bias=1.0, setpoint=25e-12)
    run.scan(Label.GOOD, 0.9, bias=-0.5, setpoint=math.nan)
    run.commit()
    with reading(run.journal.run) as db:
        assert measurement(db).setpoint == Spread(25e-12, 25e-12, 1)
    report = words(render_report(run.journal.run).html)
    assert "<dt>Bias</dt><dd>−500 mV to 1 V<" in report
    assert "<dt>Setpoint</dt><dd>25 pA, of 1 scan unknown<" in report
    with watched(run.journal.run) as address, urlopen(address) as answer:
        page = words(answer.read().decode())
    assert "all data: −500 mV to 1 V" in page
    assert "all data: 25 pA, of 1 scan unknown" in page
    # Of the displayed scan, once more.
    assert page.count("<dt>Bias</dt><dd>−500 mV") == 2
    assert page.count("<dt>Setpoint</dt><dd>unknown") == 2


def test_the_labelling_page_states_those_of_the_file(tmp_path: Path) -> None:
    frame = Frame(0.0, 0.0, 10 * NM, 64)
    write_gsf(tmp_path / "a.gsf", Scan(frame, scan(1), bias=-1.5, setpoint=40e-12))
    np.save(tmp_path / "b.npy", scan(2))
    with page_for(tmp_path, labeller="Anna") as address:
        pages = [
            words(urlopen(f"{address}?file={file}").read().decode()) for file in ("a.gsf", "b.npy")
        ]
    assert "64 × 64 px, bias −1.5 V, setpoint 40 pA" in pages[0]
    assert "64 × 64 px, bias and setpoint unknown" in words(pages[1].replace("size unknown, ", ""))


def test_pictures_have_letters_for_it() -> None:
    said = tunnelling_text(-1.5, None)
    assert known_letters(said, 60) == "bias -1.5 V, setpoint unknown"
