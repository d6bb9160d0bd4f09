"""Images of a run on the map of its areas."""

from __future__ import annotations

import base64
import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spm_gym.figures.mosaic import PaintLog, area_maps
from spm_gym.journal.reader import Label, reading
from spm_gym.web.report import render_report
from tests.support.invented_runs import InventedRun


def test_images_lie_in_their_places(tmp_path: Path) -> None:
    with InventedRun(tmp_path) as run:
        run.enter_area()
        for label in (Label.GOOD, Label.BAD_PROBE):
            run.scan(label)  # at (0, 0) and (-10 nm, -10 nm)
        run.commit()
    with reading(tmp_path) as db:
        (area,) = area_maps(db, tmp_path, PaintLog())
    data = base64.b64decode(area.picture.partition(",")[2])
    raster = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(int)
    per_nm = raster.shape[0] / area.side

    def colour(x: float, y: float) -> Any:
        return raster[int((area.top - y) * per_nm), int((x - area.left) * per_nm)]

    assert colour(20, 20)[3] == 0
    assert colour(0, 0)[3] == colour(-10, -10)[3] == 255
    green, orange = colour(0, 4.8), colour(-10, -14.8)
    assert green[1] > green[0]
    assert orange[0] > orange[1]
    assert colour(-10, 0)[3] == 0


@pytest.mark.slow
def test_thousands_of_scans_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    peaks = {}
    for number in (600, 6000):
        path = tmp_path / str(number)
        path.mkdir()
        with InventedRun(path) as run:
            for place in range(number):
                if place % (number // 4) == 0:
                    run.enter_area()
                run.scan(Label.GOOD if place % 4 else Label.BAD_PROBE, 0.95)
            run.commit()
        tracemalloc.start()
        page = render_report(path)
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert page.files.painted == number
        assert len(page.html) < 10e6
    # The maps are bigger, up to their bound; the heights alone would be another 96 MB.
    assert peaks[6000] < peaks[600] + 40e6
