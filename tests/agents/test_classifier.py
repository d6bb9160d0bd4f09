from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from agents.classifier import ClassifierError, ProbeClassifier
from agents.classifier_report import plot, score
from agents.classifier_training import Labelled, fit, flipped, split, train_classifier
from agents.counterexamples import counterexamples
from agents.vgg import VGG
from spm_gym.config import ClassifierConfig, NetworkConfig
from spm_gym.imaging.conditions import TrainingConditions

PIXELS = 24
TINY = NetworkConfig(channels=(8, 16), pooled_sets=2, stem_stride=2, hidden=(16,))
CONDITIONS = TrainingConditions("real", "blobs", (-1.0, -0.5), (1e-11, 2e-11), (1e-10, 1e-10))
QUICK = ClassifierConfig(network=TINY, epochs=8, batch_size=32, device="cpu", refuse_poor=False)


def blobs(count: int, seed: int) -> Labelled:
    """Three sharp molecules each; a bad probe images each of them twice, a little aside."""
    rng = np.random.default_rng(seed)
    good = rng.random(count) < 0.3
    place = rng.uniform(4, PIXELS - 4, (count, 3, 2))
    aside = rng.uniform(-1, 1, (count, 1, 2))
    aside *= 4 / np.linalg.norm(aside, axis=-1, keepdims=True)
    heights = sharp(place) + np.where(good, 0, 1)[:, None, None] * sharp(place + aside)
    noise = rng.normal(0, 0.05, heights.shape)
    return Labelled(np.clip(2 * heights - 1 + noise, -1.5, 1.5).astype(np.float32), good)


def sharp(place: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:PIXELS, :PIXELS]
    squared = (y - place[..., 0, None, None]) ** 2 + (x - place[..., 1, None, None]) ** 2
    molecules: np.ndarray = np.exp(-squared / 4).sum(axis=1)
    return molecules


@pytest.fixture(scope="module")
def data() -> Labelled:
    return blobs(1500, seed=0)


@pytest.fixture(scope="module")
def others() -> Labelled:
    return blobs(600, seed=1)


@pytest.fixture(scope="module")
def trained(data: Labelled) -> ProbeClassifier:
    return fit(data, QUICK, seed=0)[0]


def classified(classifier: ProbeClassifier, data: Labelled) -> np.ndarray:
    return classifier(data.images[:, None])


def test_it_separates_sharp_probes_from_double_ones(
    trained: ProbeClassifier, others: Labelled
) -> None:
    report = score(classified(trained, others), others.good, 0.9)
    assert report.auc > 0.98
    assert report.calibration_error < 0.08


def test_shuffled_labels_teach_nothing(data: Labelled, others: Labelled) -> None:
    shuffled = Labelled(data.images, np.random.default_rng(0).permutation(data.good))
    classifier, _ = fit(shuffled, QUICK, seed=0)
    assert roc_auc_score(others.good, classified(classifier, others)) == pytest.approx(0.5, abs=0.1)


def test_training_lowers_both_losses_and_reports_each_epoch(
    data: Labelled, others: Labelled
) -> None:
    _, history = fit(data, QUICK, seed=3, validation=others)
    assert len(history) == 8
    assert history[-1].loss < history[0].loss / 2
    first, last = history[0].validation_loss, history[-1].validation_loss
    assert first is not None
    assert last is not None
    assert last < first / 2


def test_the_seed_decides_and_torch_generator_is_left_alone(
    data: Labelled, others: Labelled
) -> None:
    config = QUICK.model_copy(
        update={"epochs": 1, "network": TINY.model_copy(update={"dropout": 0.3})}
    )
    torch.manual_seed(5)
    first = classified(fit(data, config, seed=1)[0], others)
    ignoring_signals = torch.rand(3)
    again = classified(fit(data, config, seed=1)[0], others)
    other = classified(fit(data, config, seed=2)[0], others)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    torch.manual_seed(5)
    VGG(config.network, 1, PIXELS, torch.Generator())
    assert torch.equal(torch.rand(3), ignoring_signals)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_a_weight_on_good_images_multiplies_the_odds(weight: float) -> None:
    alike = Labelled(np.ones((200, 8, 8), np.float32), np.arange(200) % 4 == 0)
    config = ClassifierConfig(
        network=NetworkConfig(channels=(2,), pooled_sets=1, hidden=(4,), norm="none"),
        epochs=60,
        batch_size=100,
        learning_rate=0.03,
        good_weight=weight,
    )
    classifier, _ = fit(alike, config, seed=0)
    odds = weight * 1 / 3
    assert classified(classifier, alike) == pytest.approx(odds / (1 + odds), abs=0.02)


def test_flips_keep_the_label_and_every_value() -> None:
    rng = np.random.default_rng(0)
    images = torch.randn(200, 1, 4, 4)
    result = flipped(images, rng)
    variants = [images, images.flip(-1), images.flip(-2), images.flip(-1, -2)]
    counts = [sum(torch.equal(a, b) for a, b in zip(result, v, strict=True)) for v in variants]
    assert sum(counts) == len(images)
    assert all(30 < count < 70 for count in counts)


def test_a_batch_and_single_images_are_classified_alike_without_side_effects(
    trained: ProbeClassifier, others: Labelled
) -> None:
    together = classified(trained, others)
    assert together.dtype == np.float32
    assert together.shape == (600,)
    assert ((together >= 0) & (together <= 1)).all()
    alone = np.concatenate([trained(image[None, None]) for image in others.images[:20]])
    assert alone == pytest.approx(together[:20], abs=1e-5)
    with torch.inference_mode():
        logits = trained.network.eval()(torch.from_numpy(others.images[:, None]))
    assert together == pytest.approx(torch.sigmoid(logits)[:, 0].numpy(), abs=1e-5)


@pytest.mark.parametrize("shape", [(PIXELS, PIXELS), (2, PIXELS, PIXELS), (1, 1, 64, 64)])
def test_other_shapes_are_refused(trained: ProbeClassifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(ClassifierError, match=r"images \(N, 1, 24, 24\), not"):
        trained(np.zeros(shape, np.float32))


# Files


def test_a_loaded_classifier_is_the_saved_one(
    trained: ProbeClassifier, others: Labelled, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    trained.summary, trained.conditions = {"seed": 0}, CONDITIONS
    trained.save(path)
    loaded = ProbeClassifier.load(path)
    assert np.array_equal(classified(loaded, others), classified(trained, others))
    assert loaded.summary == {"seed": 0}
    assert loaded.conditions == CONDITIONS
    assert loaded.network.config == TINY
    assert list(tmp_path.iterdir()) == [path]


def test_whatever_is_no_classifier_is_one_error_that_names_the_file(
    trained: ProbeClassifier, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    weights = {key: value.contiguous() for key, value in trained.network.state_dict().items()}

    def refused(reason: str) -> None:
        with pytest.raises(ClassifierError, match=reason) as caught:
            ProbeClassifier.load(path)
        assert str(caught.value).startswith(f"{path} is not a classifier")
        assert "\n" not in str(caught.value)

    def with_metadata(**changes: object) -> None:
        about = {"format": "spm-gym probe classifier 2", "pixels": PIXELS, "summary": {}}
        about |= {"conditions": CONDITIONS.to_json()}
        about |= {"network": TINY.model_dump(mode="json"), **changes}
        save_file(weights, path, {"about": json.dumps(about)})

    refused("No such file")
    path.write_bytes(b"")
    refused("header")
    path.write_bytes(b"PK\x03\x04" * 50)
    refused("header")
    trained.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    refused("header|incomplete|buffer")
    save_file(weights, path)
    refused("lack 'about'")
    with_metadata(format="another")
    refused("'another'")
    with_metadata(format="spm-gym probe classifier 1")
    refused("train it again")
    save_file(weights, path, {"about": "[]"})
    refused("are a list")
    with_metadata(summary="long")
    refused("summary is a str")
    with_metadata(conditions=None)
    refused("conditions")
    with_metadata(conditions=CONDITIONS.to_json() | {"bias": [1.0, -1.0]})
    refused("conditions.bias")
    with_metadata(conditions=CONDITIONS.to_json() | {"auc": float("nan")})
    refused("conditions.auc")
    with_metadata(network={"chanels": [3]})
    refused("chanels")
    with_metadata(pixels=2)
    refused("too small")
    with_metadata(pixels=64)
    refused("do not fit")
    with_metadata(pixels="many")
    refused("do not fit")
    with_metadata()
    assert isinstance(ProbeClassifier.load(path), ProbeClassifier)
    about = {"format": "spm-gym probe classifier 2", "pixels": PIXELS, "summary": {},
             "network": TINY.model_dump(mode="json")}  # fmt: skip
    save_file(weights, path, {"about": json.dumps(about)})
    refused("lack 'conditions'")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])  # of the last, sums are not finite
def test_weights_that_give_no_finite_answer_are_refused(
    trained: ProbeClassifier, tmp_path: Path, value: float
) -> None:
    path = tmp_path / "c.safetensors"
    trained.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for broken in ([name] for name in weights) if value != value else [list(weights)]:
        changed = weights | {name: torch.full_like(weights[name], value) for name in broken}
        save_file(changed, path, metadata)
        with pytest.raises(ClassifierError, match="finite") as caught:
            ProbeClassifier.load(path)
        assert str(caught.value).startswith(f"{path} is not")


def test_training_that_diverges_is_said_to(data: Labelled) -> None:
    wild = QUICK.model_copy(update={"learning_rate": 1e30, "epochs": 2})
    with pytest.raises(ClassifierError, match="finite"):
        fit(data, wild, seed=0)


# Division into training and validation


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 30), min_size=8, max_size=20),
    fraction=st.floats(0.15, 0.5),
    by=st.sampled_from(["image", "session"]),
    seed=st.integers(0, 2**32),
)
def test_a_division_is_complete_and_near_the_fraction(
    sizes: list[int], fraction: float, by: str, seed: int
) -> None:
    session = np.repeat([f"s{number}" for number in range(len(sizes))], sizes)
    good = np.arange(session.size) % 4 == 0
    config = ClassifierConfig.model_validate({"validation_fraction": fraction, "split": by})
    training, validation = split(good, session, config, seed)
    assert sorted([*training, *validation]) == list(range(session.size))
    for side in (training, validation):
        assert 0 < good[side].sum() < side.size
    again = split(good, session, config, seed)
    assert np.array_equal(validation, again[1])
    if by == "session":
        assert not set(session[training]) & set(session[validation])
        assert abs(validation.size - fraction * session.size) <= max(sizes)
    else:
        assert abs(good[validation].sum() - fraction * good.sum()) <= 1
        assert abs(validation.size - fraction * session.size) <= 2


def test_a_side_without_a_class_is_refused() -> None:
    good = np.arange(40) < 20
    session = np.where(good, "good night", "bad night")
    with pytest.raises(ClassifierError, match=r"split by session leaves .* in 2 sessions"):
        split(good, session, ClassifierConfig(split="session"), 0)


def test_one_class_cannot_be_fitted() -> None:
    images = np.zeros((8, PIXELS, PIXELS), np.float32)
    with pytest.raises(ClassifierError, match="not 8 good of 8"):
        fit(Labelled(images, np.ones(8, bool)), QUICK, seed=0)
    with pytest.raises(ClassifierError, match=r"not \(8, 24, 24\) and \(7,\)"):
        Labelled(images, np.ones(7, bool))


# Reports


def test_a_score_worked_out_by_hand() -> None:
    probability = np.array([0.95, 0.85, 0.92, 0.9, 0.05], np.float32)
    good = np.array([True, True, False, False, False])
    report = score(probability, good, 0.9)
    counts = (report.true_positives, report.false_negatives, report.false_positives)
    assert counts == (1, 1, 1)
    assert report.true_negatives == 2
    assert (report.tpr, report.fpr, report.accuracy) == (0.5, 1 / 3, 0.6)
    # Of the six pairs of a good and a bad image, (0.85, 0.92) and (0.85, 0.9) stand wrong.
    assert report.auc == pytest.approx(4 / 6)
    bins = [(b.count, round(b.good, 6)) for b in report.reliability]
    assert bins == [(1, 0), (1, 1), (3, round(1 / 3, 6))]
    assert report.roc[0][0] == report.roc[1][0] == 0
    assert report.roc[0][-1] == report.roc[1][-1] == 1


def test_the_threshold_is_strict() -> None:
    report = score(np.array([0.9, 0.9], np.float64), np.array([True, False]), 0.9)
    assert report.tpr == 0


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_probabilities_that_mean_what_they_say_have_no_calibration_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.random(20_000).astype(np.float32)
    honest = rng.random(20_000) < probability
    assert score(probability, honest, 0.9).calibration_error < 0.02
    assert score(probability**3, honest, 0.9).calibration_error > 0.1


def test_one_class_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="0 good of 3"):
        score(np.zeros(3, np.float32), np.zeros(3, bool), 0.9)


def test_training_leaves_classifier_report_and_picture(
    data: Labelled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = np.full(data.good.size, "s")
    config = QUICK.model_copy(update={"epochs": 2})
    directory = tmp_path / "run"
    classifier = train_classifier(
        data, session, config, 0.7, 0, directory, CONDITIONS, progress=False
    )
    assert sorted(path.name for path in directory.iterdir()) == [
        "classifier.safetensors",
        "report.json",
        "report.png",
    ]
    assert (directory / "report.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((directory / "report.json").read_text())
    assert report["good"] + report["bad"] == round(0.24 * data.good.size)
    loaded = ProbeClassifier.load(directory / "classifier.safetensors")
    assert loaded.summary == classifier.summary
    assert loaded.summary["validation"]["auc"] == report["auc"]
    assert loaded.summary["validation"]["threshold"] == report["threshold"] == 0.7
    assert loaded.summary["training_images"] == 1140
    validated = report["good"] + report["bad"]
    assert loaded.conditions == replace(CONDITIONS, auc=report["auc"], images=validated)
    assert f"{report['tpr']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bad", "good", "threshold"),
    [
        ([0.1, 0.2], [0.95, 0.99], 0.9),  # the usual one does
        ([0.1, 0.2], [0.5, 0.99], 0.3),  # it would miss half
        ([0.1, 0.97], [0.98, 0.99], 0.97),  # it would pass a bad one
        ([0.1] * 150 + [0.97], [0.98, 0.99], 0.9),  # one of a hundred may pass
        ([0.1, 1.0], [0.98, 0.99], 1.0),  # nothing passes, and nothing is found
    ],
)
def test_the_recommended_threshold_passes_few_bad_images_and_finds_what_it_can(
    bad: list[float], good: list[float], threshold: float
) -> None:
    probability = np.array(bad + good)
    labels = np.arange(probability.size) >= len(bad)
    report = score(probability, labels, 0.9)
    assert report.recommended == pytest.approx(threshold)
    assert (np.array(bad) > report.recommended).mean() <= 0.01
    assert report.recommended_tpr == (np.array(good) > report.recommended).mean()


def labelled(few: Labelled, tmp_path: Path, **settings: object) -> ProbeClassifier:
    config = ClassifierConfig.model_validate(
        {"network": TINY, "device": "cpu", "batch_size": 32, **settings}
    )
    session = np.full(few.good.size, "s")
    return train_classifier(few, session, config, 0.9, 0, tmp_path, CONDITIONS, False)


def test_a_classifier_of_guesses_is_refused_and_its_report_kept(
    data: Labelled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = data[np.arange(150)]
    guessed = Labelled(few.images, np.random.default_rng(0).permutation(few.good))
    with pytest.raises(ClassifierError, match=r"not written.*ROC curve.*at least 0\.9") as caught:
        labelled(guessed, tmp_path)
    assert "classifier.refuse_poor=false" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.png"}
    assert "these figures are rough" in capsys.readouterr().out
    assert labelled(guessed, tmp_path, refuse_poor=False)
    assert (tmp_path / "classifier.safetensors").is_file()


def test_few_labels_are_used_often_enough_to_find_the_good_ones(
    data: Labelled, tmp_path: Path
) -> None:
    few = data[np.concatenate([np.flatnonzero(data.good)[:124], np.flatnonzero(~data.good)[:26]])]
    classifier = labelled(few, tmp_path)
    assert len(classifier.summary["history"]) * 5 >= 200  # batches of 32
    validation = classifier.summary["validation"]
    assert validation["tpr"] > 0.5
    saved = ProbeClassifier.load(tmp_path / "classifier.safetensors")
    assert saved.summary["validation"]["recommended"] == validation["recommended"]


def test_many_images_are_used_ten_times(data: Labelled) -> None:
    many = Labelled(data.images[:800], data.good[:800])
    config = QUICK.model_copy(update={"epochs": None, "batch_size": 8})
    assert len(fit(many, config, seed=0)[1]) == 10


def test_a_trunk_to_start_with_is_what_training_begins_from(
    trained: ProbeClassifier, data: Labelled, others: Labelled
) -> None:
    still = QUICK.model_copy(update={"epochs": 1, "learning_rate": 1e-12, "batch_size": 1500})
    started, _ = fit(data, still, seed=9, start=trained.network)
    fresh, _ = fit(data, still, seed=9)
    ours, theirs, other = (
        dict(each.network.trunk.named_parameters()) for each in (trained, started, fresh)
    )
    for name, weights in ours.items():
        assert torch.allclose(weights, theirs[name], atol=1e-6)
    assert any(not torch.allclose(weights, other[name]) for name, weights in ours.items())


def test_counterexamples_are_levelled_images_that_the_seed_decides() -> None:
    images = counterexamples(60, 32, np.random.default_rng(0))
    assert images.shape == (60, 32, 32)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1.5
    # A bare terrace lies at -1; here every third image is one, with or without noise and debris.
    assert (np.abs(np.median(images, axis=(1, 2)) + 1) < 0.1).mean() > 0.3
    assert np.array_equal(images, counterexamples(60, 32, np.random.default_rng(0)))
    assert len(counterexamples(0, 32, np.random.default_rng(0))) == 0


@pytest.mark.slow
def test_counterexamples_teach_that_a_bare_terrace_is_not_good(
    data: Labelled, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    bare = counterexamples(200, PIXELS, rng)[:, None]
    called_good = []
    for share in (0.0, 0.3):
        config = QUICK.model_copy(update={"counterexamples": share})
        classifier = train_classifier(
            data,
            np.full(data.good.size, "s"),
            config,
            0.9,
            0,
            tmp_path,
            CONDITIONS,
            False,
        )
        called_good.append((classifier(bare) > 0.9).mean())
        assert roc_auc_score(data.good, classified(classifier, data)) > 0.98
    assert called_good[0] > 0.1
    assert called_good[1] < 0.02


def test_tensorboard_gets_losses_and_the_precision_recall_curve(
    data: Labelled, tmp_path: Path
) -> None:
    class Writer:
        tags: set[str] = set()  # noqa: RUF012

        def add_scalar(self, tag: str, *_: object) -> None:
            self.tags.add(tag)

        def add_pr_curve(self, tag: str, labels: np.ndarray, p: np.ndarray, _: int) -> None:
            assert labels.shape == p.shape
            self.tags.add(tag)

        def add_image(self, tag: str, pixels: np.ndarray, _: int, dataformats: str) -> None:
            assert dataformats == "HWC"
            assert pixels.shape[2] == 3
            self.tags.add(tag)

    few = data[np.arange(200)]
    train_classifier(
        few,
        np.full(200, "s"),
        QUICK.model_copy(update={"epochs": 1}),
        0.9,
        0,
        tmp_path,
        CONDITIONS,
        progress=False,
        writer=Writer(),  # type: ignore[arg-type]
    )
    assert Writer.tags == {
        "classifier/loss",
        "classifier/validation_loss",
        "classifier/auc",
        "classifier/accuracy",
        "classifier/tpr",
        "classifier/fpr",
        "classifier/calibration_error",
        "classifier/precision_recall",
        "classifier/report",
    }


def test_the_picture_is_drawn_for_certain_probabilities(tmp_path: Path) -> None:
    good = np.array([True, False, True])
    probability = good.astype(np.float32)
    plot(score(probability, good, 0.9), probability, good, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
