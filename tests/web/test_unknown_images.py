"""Pages say of an image that the classifier does not know that it is unknown."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import Label
from spm_gym.web.labelling.candidates import Image, find_candidates, in_order, read_images
from spm_gym.web.labelling.desk import Desk
from spm_gym.web.labelling.labels import Labels
from spm_gym.web.labelling.page import Setup, labelling
from tests.support.browsing import served
from tests.support.invented_runs import InventedRun
from tests.support.labelling import FREE, ten_scans
from tests.support.scripted_runs import Verdicts
from tests.support.watching import watched

pytestmark = pytest.mark.slow


def answer(address: str) -> str:
    with urlopen(address) as page:
        text: str = page.read().decode()
    return text


def test_the_live_page_shows_and_counts_unknown_images(run: InventedRun) -> None:
    known = run.scan(Label.GOOD, 0.98)
    number = run.scan(Label.UNKNOWN)
    run.commit(state="choose region")
    with watched(run.journal.run) as address:
        page = answer(f"{address}?scan={number}")
        assert re.search(r"<dt>Good probe</dt><dd>unknown <small>unlike all", page)
        assert 'data-label="unknown">unknown</span>' in page
        assert "<dt>Unknown</dt><dd>1 <small>" in page
        assert "unlike all" not in answer(f"{address}?scan={known}")
        # Numbers for the chart are strict JSON, and only those of images that have one.
        series = json.loads(answer(f"{address}series?after=0"), parse_constant=pytest.fail)
        assert series["last"] == known
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_what_the_classifier_does_not_know_is_labelled_first() -> None:
    answers = {"a": 0.5, "b": math.nan, "c": 0.99, "d": math.nan, "e": 0.4}
    images = [Image(file, Path(file), 64, None, None, probability=p) for file, p in answers.items()]
    for given in (images, images[::-1]):
        ordered = in_order(given, "informative", lambda file: False, lambda file: False)
        listed = "".join(image.file for image in ordered)
        assert listed in ("bdaec", "dbaec")
    assert [image.answer for image in images[:3]] == [
        "Classifier: 50 % good", "Classifier: unknown", "Classifier: 99 % good"
    ]  # fmt: skip


def test_the_labelling_page_says_unknown(tmp_path: Path) -> None:
    folder = ten_scans(tmp_path / "scans")
    found = find_candidates(folder)
    images, _ = read_images(found, 64, Preprocessing(), Verdicts(math.nan), lambda count: None)
    assert np.isnan([image.probability for image in images]).all()
    with Labels(folder, found) as labels:
        desk = Desk(images, labels)
        app = labelling(desk, Setup(folder, 64, Preprocessing(), "Anna", []), FREE)
        with served(app) as address:
            page = answer(address)
    assert "Classifier: unknown" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
