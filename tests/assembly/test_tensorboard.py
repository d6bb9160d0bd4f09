"""Records of runs for TensorBoard, and the glossary of metrics, which has all of them."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api_pb2, metadata

from agents.summaries import METRICS, captioned, opening, training_logger
from spm_gym.analysis.metrics import RunMetrics, is_sampled
from spm_gym.assembly import tensorboard as tensorboard
from spm_gym.assembly.run_directory import existing_operation, existing_training
from spm_gym.assembly.tensorboard import EventFile, RunTensorBoard
from spm_gym.cli import main, train
from spm_gym.config import Config, load_config
from spm_gym.errors import UsageError
from spm_gym.journal.reader import Label, reading
from tests.support.command_runs import LIVELY, lab_training

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "metrics.md"
SMOKE = str(ROOT / "configs" / "smoke.yaml")
INTERLEAVED = [*LIVELY, "operation.policy=interleaved"]
KINDS = ("scalars", "images", "histograms", "tensors")
CRASHES = "faults={schedule: [{scan: 9, fault: crash}, {scan: 30, fault: lost contact}]}"
SECTIONS = {
    "agent": "Training the agent",
    "operation": "Operation",
    "classifier": "Training the classifier",
    "recogniser": "Training the recogniser",
}

pytestmark = pytest.mark.usefixtures("fresh_folder")


def events_of(run: str | Path) -> EventAccumulator:
    return EventAccumulator(str(Path(run) / "tensorboard"), dict.fromkeys(KINDS, 0)).Reload()


def tags_of(run: str) -> set[str]:
    runs = [events_of(folder.parent).Tags() for folder in Path(run).rglob("tensorboard")]
    return {tag for tags in runs for kind in KINDS for tag in tags[kind]}


def documented(kind: str) -> dict[str, re.Pattern[str]]:
    """Tags of a kind of run in the glossary; what stands in <> may be anything."""
    sections = re.split(r"^## ", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, re.Pattern[str]] = {}
    for section in sections:
        if section.startswith(("In every run", SECTIONS[kind])):
            for tag in re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE):
                found[tag] = re.compile(re.sub(r"<\w+>", ".+", re.escape(tag)))
    return found


def operate(*options: str) -> int:
    return main(["run", "--run-dir", "run", *options])


def train_agents() -> None:
    assert train.main(["--config", SMOKE, "--run-dir", "run/dqn"]) == 0
    belief = ["--agent", "belief", "--steps", "60", "--run-dir", "run/belief"]
    assert train.main([*belief, "--set", "run.image_every=50"]) == 0


def train_classifiers() -> None:
    assert train.main(["classifier", "--config", SMOKE, "--run-dir", "run/simulated"]) == 0
    assert train.main([*lab_training("lab.npz"), "--run-dir", "run/lab"]) == 0


def train_recogniser() -> None:
    assert train.main(["recogniser", "--config", SMOKE, "--run-dir", "run"]) == 0


def operate_with_troubles() -> None:
    assert operate("--scans", "90", "--set", *INTERLEAVED, CRASHES) == 0
    belief = ["--set", *INTERLEAVED, "agent.kind=belief", "simulator.tip_change_rate=0.3"]
    assert main(["run", "--run-dir", "run/belief", "--scans", "60", *belief]) == 0


@pytest.mark.parametrize(
    ("kind", "go"),
    [
        ("agent", train_agents),
        ("operation", operate_with_troubles),
        ("classifier", train_classifiers),
        ("recogniser", train_recogniser),
    ],
)
def test_the_glossary_is_what_is_written(kind: str, go: Callable[[], None]) -> None:
    go()
    of_settings = {metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG,
                   metadata.SESSION_END_INFO_TAG}  # fmt: skip
    written = tags_of("run")
    assert of_settings <= written
    written -= of_settings
    glossary = documented(kind)
    unknown = {t for t in written if not any(p.fullmatch(t) for p in glossary.values())}
    assert not unknown
    missing = {t for t, p in glossary.items() if not any(map(p.fullmatch, written))}
    assert not missing


def test_metrics_beside_the_settings_are_in_the_glossary() -> None:
    known = {tag for kind in SECTIONS for tag in documented(kind)}
    assert set(METRICS) <= known


def test_a_resumed_run_is_told_once_from_its_first_image() -> None:
    assert operate("--scans", "40", "--set", *INTERLEAVED) == 0
    [first] = Path("run/tensorboard").iterdir()
    with first.open("ab") as file:
        file.write(b"a record that a kill has cut")
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "80"]) == 0
    [second] = Path("run/tensorboard").iterdir()
    assert second != first
    events = events_of("run")
    with reading(Path("run")) as db:
        rows = db.execute("SELECT * FROM scans WHERE fraction = 1 ORDER BY id").fetchall()
        lengths = db.execute("SELECT actions FROM episodes WHERE outcome IS NOT NULL").fetchall()
        times = db.execute(
            "SELECT elapsed_end - elapsed FROM episodes WHERE outcome IS NOT NULL"
        ).fetchall()
    good = events.Scalars("yield/good")
    assert [each.step for each in good] == list(range(1, 81))
    assert [each.wall_time for each in good] == [row["wall"] for row in rows]
    assert good[-1].value == sum(row["label"] == Label.GOOD for row in rows)
    classified = [row["probability"] for row in rows if row["probability"] is not None]
    reported = [each.value for each in events.Scalars("image/probability")]
    assert reported == pytest.approx(classified)
    found = [each.value for each in events.Scalars("episode/length")]
    assert found == [length for (length,) in lengths]
    seconds = [each.value for each in events.Scalars("episode/seconds")]
    assert seconds == pytest.approx([time for (time,) in times])
    assert min(seconds) > 0
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("episode/length_")]
    assert sum(len(events.Scalars(tag)) for tag in tags) == len(found)


def test_what_was_written_is_the_same_after_a_kill() -> None:
    """In other words: nothing depends on when the board was at work."""
    assert operate("--scans", "50", "--set", *INTERLEAVED) == 0
    before = events_of("run")
    assert main(["run", "--resume", "--run-dir", "run"]) == 0  # the run is over: it tells it again
    after = events_of("run")
    assert before.Tags() == after.Tags()
    for tag in before.Tags()["scalars"]:
        assert before.Scalars(tag) == after.Scalars(tag)
    for tag in before.Tags()["images"]:
        assert before.Images(tag) == after.Images(tag)


def test_images_come_with_their_captions() -> None:
    assert operate("--scans", "15") == 0
    images = events_of("run").Images("observation/good")
    assert 5 < len(images) <= 15
    with Image.open(io.BytesIO(images[0].encoded_image_string)) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (images[0].height, images[0].width) == (276, 256)
    assert pixels[256:].max() > 200  # letters
    assert np.unique(pixels[:256]).size > 20


def test_captions_say_different_things() -> None:
    grey = np.zeros((64, 64), np.uint8)
    one, other = (captioned(grey, f"p = {p:.3f}") for p in (0.25, 0.75))
    assert np.array_equal(one[:256], other[:256])
    assert not np.array_equal(one[256:], other[256:])
    assert captioned(np.zeros((512, 512), np.uint8), "").shape == (532, 512)
    assert captioned(np.zeros((8, 4), np.uint8), "").shape == (276, 128)


def test_a_run_of_any_length_shows_some_hundred_images() -> None:
    images = [number for number in range(1, 20_001) if is_sampled(number)]
    assert images[:10] == list(range(1, 11))
    assert len(images) < 100
    assert max(np.diff(images)) <= 2048


def refuse_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object) -> None:
        raise FileExistsError(errno.EEXIST, "there is something else")

    monkeypatch.setattr(tensorboard.RunTensorBoard, "_begin", begin)


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    written = EventFile.write
    left = iter(range(20))

    def write(self: EventFile, event: Event) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "no space left")
        written(self, event)

    monkeypatch.setattr(EventFile, "write", write)


@pytest.mark.parametrize("trouble", [refuse_folder, fill_disk])
def test_trouble_with_the_record_is_said_once_and_costs_no_image(
    trouble: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(trouble)
    trouble(monkeypatch)
    assert operate("--scans", "30") == 0
    output = capsys.readouterr().out
    assert output.count("nothing more is written for TensorBoard, the run goes on") == 1
    assert "30 images are taken" in output


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_very_end_costs_nothing_either() -> None:
    """The device /dev/full takes what is buffered and refuses it when it is flushed."""
    script = (
        "from pathlib import Path; from spm_gym.cli import main\n"
        "from spm_gym.assembly import tensorboard as b\n"
        "b.EventFile.__init__ = lambda s, *_: (setattr(s, '_file', open('/dev/full', 'wb')),"
        " setattr(s, '_records', b.RecordWriter(s._file)))[0]\n"
        "raise SystemExit(main(['run', '--run-dir', 'run', '--scans', '5']))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout
    assert "Traceback" not in done.stderr


def status_of(run: str) -> int:
    """How a run has ended, as the HPARAMS tab has it."""
    about = events_of(run).SummaryMetadata(metadata.SESSION_END_INFO_TAG)
    return int(metadata.parse_session_end_info_plugin_data(about.plugin_data.content).status)


def at_image(number: int, act: Callable[[], None]) -> Callable[..., None]:
    """A `show` that does something when it is told of a transition for that time."""
    reported = iter(range(1, number + 1))

    def show(*_: object) -> None:
        if next(reported, None) == number:
            act()

    return show


def fail() -> None:
    raise RuntimeError("a fault of this program")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_record_says_how_a_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operate("--scans", "5") == 0
    assert status_of("run") == api_pb2.STATUS_SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(RunTensorBoard, "show", at_image(9, interrupt))
        assert main(["run", "--resume", "--run-dir", "run", "--scans", "20"]) == 130
    assert status_of("run") == api_pb2.STATUS_FAILURE
    with monkeypatch.context() as patch:
        patch.setattr(RunTensorBoard, "show", at_image(9, fail))
        with pytest.raises(RuntimeError, match="a fault of this program"):
            main(["run", "--resume", "--run-dir", "run", "--scans", "20"])
    assert status_of("run") == api_pb2.STATUS_FAILURE
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "20"]) == 0
    assert status_of("run") == api_pb2.STATUS_SUCCESS


def test_a_run_that_gives_up_is_no_success() -> None:
    crashes = ", ".join(f"{{scan: {n}, fault: crash}}" for n in range(3, 30))
    assert operate("--scans", "30", "--set", f"faults={{schedule: [{crashes}]}}") == 2
    assert status_of("run") == api_pb2.STATUS_FAILURE


def test_the_end_is_told_before_the_record_is_completed_and_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunTensorBoard, "show", lambda *_: None)
        patch.setattr(tensorboard, "_AT_THE_END_S", 0.0)
        assert operate("--scans", "8") == 0
    output = capsys.readouterr().out
    assert output.index("8 images are taken") < output.index("only images 1 to 1 were written")
    assert [each.step for each in events_of("run").Scalars("yield/good")] == [1]
    assert status_of("run") == api_pb2.STATUS_SUCCESS
    assert main(["run", "--resume", "--run-dir", "run"]) == 0
    assert len(events_of("run").Scalars("yield/good")) == 8
    assert "written for TensorBoard in time" not in capsys.readouterr().out


def test_an_interrupt_while_the_record_is_completed_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    end = RunTensorBoard._end

    def interrupted(self: RunTensorBoard) -> None:
        interrupt()
        end(self)
        interrupt()

    monkeypatch.setattr(RunTensorBoard, "show", lambda *_: None)
    monkeypatch.setattr(RunTensorBoard, "_end", interrupted)
    assert operate("--scans", "8") == 0
    assert "the record for TensorBoard is being completed" in capfd.readouterr().err
    assert len(events_of("run").Scalars("yield/good")) == 8
    assert status_of("run") == api_pb2.STATUS_SUCCESS


def test_anybody_stops_listening_to_a_story_anywhere_misses_nothing() -> None:
    assert operate("--scans", "40", "--set", *INTERLEAVED) == 0
    names = [action.name for action in Config().env.actions]

    def reported(piecewise: bool) -> list[tuple[int, float, dict[str, float], str]]:
        found = []
        story = RunMetrics(Path("run"), names)
        try:
            while True:
                before = len(found)
                for each in story:
                    caption = "" if each.picture is None else each.picture.caption
                    found.append((each.step, each.wall, each.values, caption))
                    if piecewise:
                        break
                if len(found) == before:
                    return found
        finally:
            story.close()

    whole = reported(piecewise=False)
    assert len(whole) > 40
    assert reported(piecewise=True) == whole


def test_a_damaged_scan_is_left_out() -> None:
    assert operate("--scans", "12") == 0
    file = sorted(Path("run/scans").iterdir())[3]
    file.write_bytes(b"damaged")
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "14"]) == 0
    assert [each.step for each in events_of("run").Scalars("yield/good")] == list(range(1, 15))


def test_settings_come_back() -> None:
    config = load_config(None, ["operation.policy=random", "seed=7"])
    experiment, start, text = opening(config, "operation", "tuesday")
    values = metadata.parse_session_start_info_plugin_data(
        start.value[0].metadata.plugin_data.content
    )
    assert values.group_name == "tuesday"
    assert values.hparams["operation.policy"].string_value == "random"
    assert values.hparams["operation.learn"].bool_value is True
    assert values.hparams["seed"].number_value == 7
    assert not [name for name in values.hparams if name.startswith("agent.")]
    named = metadata.parse_experiment_plugin_data(experiment.value[0].metadata.plugin_data.content)
    assert set(values.hparams) <= {info.name for info in named.hparam_infos}
    assert [info.name.tag for info in named.metric_infos] == list(METRICS)
    (yaml,) = text.value[0].tensor.string_val
    assert config.to_yaml() in yaml.decode()


def test_training_that_goes_on_makes_void_what_came_after_its_checkpoint() -> None:
    folder = Path("run/tensorboard")
    for first, last in ((0, 10), (5, 12)):
        logger = training_logger(folder, Config(), first)
        for step in range(first + 1, last + 1):
            logger.record("learn/loss", 100.0 * (first == 0) + step)
            logger.dump(step)
        logger.close()
    losses = events_of("run").Scalars("learn/loss")
    assert [each.step for each in losses] == list(range(1, 13))
    assert [each.value for each in losses] == [101, 102, 103, 104, 105, *range(6, 13)]
    assert len(events_of("run").Tensors("settings/config")) == 1


def test_runs_are_told_apart_whatever_they_have_written() -> None:
    assert operate("--scans", "3") == 0
    assert Path("run/tensorboard").is_dir()
    assert existing_operation(Path("run"))[0] == Path("run")
    with pytest.raises(UsageError, match="not a run of 'spm-gym train'"):
        existing_training(Path("run"))
    trained = Path("trained/tensorboard")
    trained.mkdir(parents=True)
    Path("trained/training.yaml").write_text(Config().to_yaml())
    assert existing_training(Path("trained"))[0] == Path("trained")
    with pytest.raises(UsageError, match="not a run of 'spm-gym run'"):
        existing_operation(Path("trained"))
