"""Figures of a campaign, by hand, and how they compare with those of another one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from spm_gym.analysis.campaign import (
    ACTIONS,
    FEWEST_CONDITIONINGS,
    GOOD,
    SECONDS,
    TROUBLES,
    Campaign,
    NoInterval,
    read_campaign,
)
from spm_gym.analysis.comparison import MISSING, differing_settings, ratios
from spm_gym.config import load_config
from spm_gym.intervals import length_interval, poisson_interval, price_interval
from spm_gym.journal.reader import JournalError, Label
from tests.support.invented_runs import DIP, PULSE, InventedRun

EPISODES = [[PULSE], [PULSE, DIP, DIP]] * 6
DAY = 86400.0


def invented(path: Path, *settings: str, good: int = 10) -> Path:
    """Write a run of twelve conditionings, each after some good images and one bad one."""
    with InventedRun(path, load_config(None, settings).to_yaml()) as run:
        run.enter_area()
        for actions in EPISODES:
            for _ in range(good):
                run.scan(Label.GOOD, 0.9)
            run.condition(actions, values=[1.0])
        run.recovery("crash")
        run.recovery("lost contact")
        run.recovery("crash", "failed")
        run.commit()
    return path


def settings_of(path: Path, *settings: str) -> Campaign:
    with InventedRun(path, load_config(None, settings).to_yaml()) as run:
        run.enter_area()
        run.commit()
    return read_campaign(path)


def test_figures_by_hand(tmp_path: Path) -> None:
    campaign = read_campaign(invented(tmp_path))
    # Twelve times ten good images and a bad one, and 6 x (1 + 3) images after an action.
    elapsed = 20.0 * (12 * 11 + 24)
    assert campaign.overview.elapsed == elapsed
    assert campaign.figures[GOOD].value == pytest.approx(3600 * 120 / elapsed)
    # Without a good image at most from the tenth of a cycle to the first of the next one, 20 x (1 +
    # 3 + 1) s, which is less than a twentieth of the run: 20 blocks.
    lengths = [1, 3] * 6
    cycles = np.cumsum([0, *(11 + length for length in lengths)])[:-1]
    times = 20.0 * (cycles[:, None] + np.arange(1, 11)).ravel()
    counts = np.histogram(times, np.linspace(0, elapsed, 21))[0]
    assert campaign.figures[GOOD].interval == pytest.approx(
        price_interval((3600 * 20 * counts / elapsed).tolist())
    )
    assert campaign.figures[ACTIONS].value == 2.0
    assert campaign.figures[ACTIONS].interval == length_interval(lengths)
    assert campaign.figures[SECONDS].value == 40.0
    assert campaign.figures[SECONDS].interval == price_interval([20.0 * n for n in lengths])
    assert campaign.troubles == {"crash": 2, "lost contact": 1}
    assert campaign.figures[TROUBLES].value == pytest.approx(3 * DAY / elapsed)
    assert campaign.figures[TROUBLES].interval == poisson_interval(3, elapsed / DAY)
    assert campaign.figures[f"{ACTIONS}_agent"] == campaign.figures[ACTIONS]
    assert f"{ACTIONS}_random" not in campaign.figures


def test_a_run_against_itself_is_once_itself(tmp_path: Path) -> None:
    campaign = read_campaign(invented(tmp_path))
    compared = ratios(campaign, campaign)
    assert compared.keys() == campaign.figures.keys()
    for ratio in compared.values():
        assert ratio.value == 1.0
        low, high = ratio.interval
        assert 0 < low < 1 < high


def test_twice_as_many_good_images_are_a_ratio(tmp_path: Path) -> None:
    few, many = (read_campaign(invented(tmp_path / f"{n}", good=n)) for n in (5, 20))
    ratio = ratios(many, few)[GOOD]
    assert ratio.value == pytest.approx(many.figures[GOOD].value / few.figures[GOOD].value)
    low, _ = ratio.interval
    assert low > 1


def test_few_conditionings_give_no_interval(tmp_path: Path) -> None:
    with InventedRun(tmp_path) as run:
        run.enter_area()
        for _ in range(FEWEST_CONDITIONINGS - 1):
            for _ in range(100):
                run.scan(Label.GOOD, 0.9)
            run.condition([PULSE])
        run.commit()
    campaign = read_campaign(tmp_path)
    for name in (GOOD, ACTIONS, SECONDS):
        assert campaign.figures[name].interval is NoInterval.FEW
        assert ratios(campaign, campaign)[name].interval is NoInterval.FEW
    assert campaign.figures[TROUBLES].value == 0.0
    # Nothing is divided by no troubles.
    assert np.isnan(ratios(campaign, campaign)[TROUBLES].value)


def test_a_long_stretch_without_good_images_gives_none_either(tmp_path: Path) -> None:
    with InventedRun(tmp_path) as run:
        run.enter_area()
        for _ in range(FEWEST_CONDITIONINGS):
            for _ in range(10):
                run.scan(Label.GOOD, 0.9)
            run.condition([PULSE] * 10)
        run.commit()
    assert read_campaign(tmp_path).figures[GOOD].interval is NoInterval.SHORT


def test_an_empty_run_has_no_figures(tmp_path: Path) -> None:
    campaign = settings_of(tmp_path)
    assert all(np.isnan(figure.value) for figure in campaign.figures.values())
    assert campaign.good is None
    assert "nothing done yet" in campaign.remarks[0]


def test_a_run_at_work_has_figures_so_far(tmp_path: Path) -> None:
    with InventedRun(tmp_path) as run:
        run.enter_area()
        run.scan(Label.GOOD, 0.9)
        run.commit()
        assert read_campaign(tmp_path).remarks[0] == "At work: figures so far"


def test_settings_that_differ(tmp_path: Path) -> None:
    one = settings_of(tmp_path / "1", "operation.policy=random", "operation.hours=3")
    other = settings_of(tmp_path / "2", "env.good_above=0.7", "operation.hours=5", "faults={}")
    found = differing_settings([one, other, one])
    assert found["operation.policy"] == ["random", "agent", "random"]
    assert found["env.good_above"][1] == 0.7
    assert found["faults"][0] is None
    assert found["faults"][1]["crash"] > 0
    assert len(found) == 3


def test_action_sets_that_differ(tmp_path: Path) -> None:
    pulse = "{name: pulse, kind: pulse, bias_V: 4, width_s: 0.2, anywhere: true}"
    dip = "{name: dip, kind: dip, bias_V: 4, depth_nm: 1}"
    sets = [f"[{pulse}]", f"[{pulse.replace('0.2', '0.3')}, {dip}]"]
    campaigns = [
        settings_of(tmp_path / f"{n}", f"env.actions={actions}", "operation.clean_action=null")
        for n, actions in enumerate(sets)
    ]
    found = differing_settings(campaigns)
    assert found["env.actions"] == [["pulse"], ["pulse", "dip"]]
    assert [each["width_s"] for each in found["env.actions.pulse"]] == [0.2, 0.3]
    assert len(found) == 2


def test_settings_of_the_other_microscope_are_left_out(tmp_path: Path) -> None:
    simulated = settings_of(tmp_path / "1", "simulator.tip_change_rate=0.5")
    real = settings_of(tmp_path / "2", "run.microscope=real", "real.approach_at_start=true")
    assert differing_settings([simulated, real]) == {"run.microscope": ["sim", "real"]}
    with InventedRun(tmp_path / "3", "nonsense: 1") as run:
        run.commit()
    unknown = read_campaign(tmp_path / "3")
    assert "not known to this version" in " ".join(unknown.remarks)
    assert differing_settings([simulated, unknown]) == {}
    assert differing_settings([simulated, unknown, real])["run.microscope"][1] == MISSING


def test_changed_settings_are_a_remark(tmp_path: Path) -> None:
    run = invented(tmp_path)
    with sqlite3.connect(run / "journal.sqlite") as db:
        row = db.execute("SELECT * FROM sessions").fetchone()
        changed = (2, *row[1:5], "other", *row[6:])
        db.execute(f"INSERT INTO sessions VALUES ({', '.join('?' * len(row))})", changed)
    db.close()
    assert "changed between sessions" in " ".join(read_campaign(run).remarks)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    journal = invented(tmp_path) / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    journal.write_bytes(content)
    with pytest.raises(JournalError, match="damaged"):
        read_campaign(tmp_path)


@pytest.mark.parametrize("column", ["scans.elapsed", "episodes.actions", "sessions.wall"])
def test_text_for_a_number_is_damage(tmp_path: Path, column: str) -> None:
    table, name = column.split(".")
    with sqlite3.connect(invented(tmp_path) / "journal.sqlite") as db:
        db.execute(f"UPDATE {table} SET {name} = 'many'")
    db.close()
    with pytest.raises(JournalError, match=f"damaged: {column} is no number"):
        read_campaign(tmp_path)
