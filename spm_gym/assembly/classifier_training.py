"""One training run of the classifier, on simulated images or on a folder of labelled ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents import classifier_training
from agents.checkpoint import remove_whole
from agents.classifier import ProbeClassifier
from agents.classifier_checkpoint import ClassifierCheckpoints, fingerprint
from agents.classifier_training import CLASSIFIER_FILE, REPORT_FILE
from agents.labelled import Labelled, divisions
from agents.pretraining import pretrain
from agents.summaries import write_closing, write_opening
from agents.vgg import VGG, least_pixels
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.run_directory import CHECKPOINTS, TENSORBOARD
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.assembly.unlabelled import unlabelled_images
from spm_gym.atomic_file import remove_leftovers
from spm_gym.config import LAB, LAB_PRETRAINED, ClassifierConfig, Config, ConfigError
from spm_gym.datasets.labelled import load_labelled
from spm_gym.datasets.labelled_folder import LabelledImages
from spm_gym.datasets.simulated import prepared_images
from spm_gym.errors import UsageError
from spm_gym.imaging import normalise
from spm_gym.imaging.conditions import TrainingConditions, described
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale, measured_scale
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.sim.running_scan import BIAS, SETPOINT
from spm_gym.journal.run_lock import locked_run
from spm_gym.paths import as_typed
from spm_gym.scale import NM, PA

_Sessions = NDArray[np.str_]

_KNOWN = 0.5
"""Share of unknown images up to which training begins with the included classifier."""

_OF_FOLDERS = ("unlabelled", "material", "bias_V", "setpoint_pA", "image_nm")


def train_classifier(
    config: Config,
    create_run: Callable[[Config], AbstractContextManager[Path]],
    output: Path | None,
) -> int:
    """Train on simulated images, or on labelled ones.

    Args:
        config: Settings of the run.
        create_run: Makes the run directory for the settings in force; it gets the classifier and
            its report, and is kept from others.
        output: Where else to write the classifier.

    Returns:
        Exit status.

    Raises:
        ConfigError: The settings give conditions of simulated images, which the simulator knows.
    """
    prepare_process(config.run.threads)
    data = config.classifier.data
    # Before there is a run directory: images that cannot be used leave none behind.
    if data is None:
        conditions, further = simulated_conditions(config), None
        settings, start, scale = config.classifier, None, Preprocessing.of(config.env).scale
    else:
        loaded, settings, start = _lab(data, config)
        conditions = lab_conditions(loaded, config)
        scale = _scale(loaded, settings)
        further = unlabelled_images(data, loaded, settings, scale, config.env.plane)
        # Here, for it may refuse: nothing of a training that cannot be is to be left.
        divisions(loaded.good, loaded.session, settings, config.seed)
    # With what was chosen for these images: read again, it must not be chosen again.
    config = config.model_copy(update={"classifier": _with_whole_paths(settings)})
    with create_run(config) as run:
        if data is None:
            images, session = _simulated(config)
        else:
            images, session = _labelled(loaded, settings, scale), loaded.session
        # Before TensorBoard's: what it has stays if other images are refused.
        checkpoints = ClassifierCheckpoints(
            run / CHECKPOINTS,
            fingerprint(images, session, conditions, settings, config.seed, start, further),
        )
        # A training that goes on writes everything once more, and what a kill has left is void.
        with SummaryWriter(str(run / TENSORBOARD), purge_step=0) as writer:
            write_opening(writer, config, "classifier", run)
            if further is not None:
                start = pretrain(
                    np.concatenate([images.images, further]), settings, config.seed, True, writer,
                    checkpoints.of_pretraining,
                )  # fmt: skip
            trained = classifier_training.train_classifier(
                images, session, settings, config.env.good_above, config.seed, run, conditions,
                writer=writer, start=start, height_scale=scale, checkpoints=checkpoints,
            )  # fmt: skip
            write_closing(writer)
        if output is not None:
            trained.save(output)
    _print_use(trained, len(images.good), output or run / CLASSIFIER_FILE, config)
    return 0


def resume_classifier(config: Config, run: Path, output: Path | None) -> int:
    """Go on with a training that was killed, to the end that it would have come to.

    Args:
        config: Settings of the run.
        run: Its directory.
        output: Where else to write the classifier.

    Returns:
        Exit status.

    Raises:
        CheckpointError: What was kept is damaged, or of other images or settings.
        UsageError: It has ended, and its classifier was refused.
    """
    with locked_run(run):
        remove_leftovers(run)
        classifier = run / CLASSIFIER_FILE
        kept = run / CHECKPOINTS
        written = classifier.is_file()
        if not written and (kept.is_dir() or not (run / REPORT_FILE).is_file()):
            print(f"continuing {run}")
            return train_classifier(config, lambda in_force: nullcontext(run), output)
        remove_whole(kept)  # the kill may have come before they were gone
        if not written:
            raise UsageError(
                f"{run} has finished, and its classifier was refused for its scores, which are in "
                f"{REPORT_FILE}: train again in another run directory"
            )
        if output is not None:
            ProbeClassifier.load(classifier).save(output)
        print(f"{run} has finished: {output or classifier}")
        return 0


def _print_use(trained: ProbeClassifier, images: int, written: Path, config: Config) -> None:
    for name, value in described(trained.conditions):
        print(f"{name:12} {value}")
    print(f"trained on {images} images: {written}")
    recommended = trained.summary["validation"]["recommended"]
    use = [f"env.classifier={as_typed(written)}", f"env.good_above={recommended:g}"]
    if trained.pixels > config.env.pixels:
        use.append(f"env.pixels={trained.pixels}")
    print("use it with --set", *use)


def _lab(data: Path, config: Config) -> tuple[LabelledImages, ClassifierConfig, VGG | None]:
    """Read a lab's images, and choose how to train with them."""
    given, start = config.classifier, config.classifier.start
    if given.unlabelled is not None:
        if start in ("shipped", "scratch"):
            raise ConfigError(
                f"setting classifier.start = {start}: classifier.unlabelled (--unlabelled) is for "
                "pretraining; leave it out, or set classifier.start=pretrained"
            )
        start = "pretrained"
    pixels = given.pixels or config.env.pixels
    loaded = load_labelled(data, pixels, config.env.plane)
    included = ProbeClassifier.load(shipped_classifier())
    if start == "shipped" or (start == "auto" and _knows(included, loaded)):
        # Weights fit only the network that they were trained in.
        if (included.network.config, included.pixels) == (given.network, pixels):
            print("begins with the included classifier (classifier.start)")
            _print_contents(loaded, pixels)
            return loaded, given.model_copy(update={"start": "shipped"}), included.network
        if start == "shipped":
            raise ConfigError(
                "setting classifier.start = shipped: the included classifier is of another network "
                "(classifier.network, env.pixels)"
            )
    if start != "scratch":
        # As many pixels as all of them have.
        smallest = min([*loaded.averaged, LAB["pixels"]])
        unset = not {"pixels", "network"} & given.model_fields_set
        if unset and (sum(loaded.averaged.values()) == len(loaded.good) and smallest > pixels):
            pixels = smallest
            loaded = load_labelled(data, pixels, config.env.plane)
        if start == "auto":
            # Beside networks on statistics pretraining adds nothing that could be measured
            # (docs/classifier.md, *Pretraining*), so nobody waits for it who has not asked.
            start = "scratch"
            print("begins from scratch: the included classifier does not know such images")
        given = _filled(given, loaded, LAB if start == "scratch" else LAB_PRETRAINED)
    if start == "pretrained":
        print("begins with a network that learns without labels first (classifier.start)")
    _print_contents(loaded, pixels)
    return loaded, given.model_copy(update={"start": start, "pixels": pixels}), None


def _with_whole_paths(settings: ClassifierConfig) -> ClassifierConfig:
    """Name images so that a run may be continued from another folder."""
    paths = {
        name: path.absolute()
        for name in ("data", "unlabelled")
        if (path := getattr(settings, name)) is not None
    }
    return settings.model_copy(update=paths)


def _knows(included: ProbeClassifier, loaded: LabelledImages) -> bool:
    """Tell whether the included classifier knows most of the images."""
    if not loaded.metres or loaded.heights.shape[1] != included.pixels:
        return False
    images = np.stack([normalise(z) for z in loaded.heights])[:, None]
    return bool(included.unknown(images).mean() < _KNOWN)


def _filled(
    given: ClassifierConfig, loaded: LabelledImages, suited: Mapping[str, Any]
) -> ClassifierConfig:
    """Fill in what suits a lab's images where nothing else was set."""
    # Crops and rates suit that network, and not any other.
    if "network" in given.model_fields_set:
        return given
    names, counts = np.unique(loaded.session, return_counts=True)
    lab = dict(suited)
    # With too few evenings, or names that are those of files, single images are divided.
    if len(names) < LAB["folds"] or np.median(counts) == 1:
        lab["split"] = "image"
    augmentation = lab["augmentation"]
    if round(augmentation.crop * loaded.heights.shape[1]) < least_pixels(lab["network"]):
        lab["augmentation"] = augmentation.model_copy(update={"crop": 1.0})
    update = {key: value for key, value in lab.items() if key not in given.model_fields_set}
    return given.model_copy(update=update)


def _scale(loaded: LabelledImages, settings: ClassifierConfig) -> HeightScale:
    """Choose by what the images are normalised.

    Raises:
        ConfigError: The settings want heights of images that have none.
    """
    if settings.height_scale == "image" or not loaded.metres:
        if settings.height_scale == "measured":
            raise ConfigError(
                "setting classifier.height_scale = measured: the images have brightness, and no "
                "heights in metres; set image"
            )
        return "image"
    if settings.height_scale == "measured":
        return measured_scale(loaded.heights[loaded.good])
    return HALF_MOLECULE


def _labelled(loaded: LabelledImages, settings: ClassifierConfig, scale: HeightScale) -> Labelled:
    images = np.stack([normalise(z, scale) for z in loaded.heights])
    # More opinions say more of an image; the mean stays, and with it the size of the steps.
    weight = loaded.raters.astype(np.float32) ** settings.rater_weight
    return Labelled(images, loaded.good, loaded.share, weight / weight.mean(), loaded.raters)


def simulated_conditions(config: Config) -> TrainingConditions:
    """Describe the conditions of the simulator's images.

    Raises:
        ConfigError: The settings give conditions of images in a folder, or pretrain on such.
    """
    if config.classifier.start == "pretrained":
        raise ConfigError(
            "setting classifier.start = pretrained is for images in a folder (--data)"
        )
    given = [key for key in _OF_FOLDERS if getattr(config.classifier, key) is not None]
    if given:
        raise ConfigError(
            f"setting classifier.{given[0]} is for images in a folder (--data); what is simulated "
            "is known"
        )
    pixel = config.env.image_nm * NM / config.env.pixels
    return TrainingConditions(
        "simulated",
        config.simulator.material,
        bias=(BIAS, BIAS),
        setpoint=(SETPOINT, SETPOINT),
        pixel=(pixel, pixel),
    )


def lab_conditions(loaded: LabelledImages, config: Config) -> TrainingConditions:
    """Describe the conditions of a lab's images: from their files, or else from the settings."""
    given = config.classifier
    setpoint = None if given.setpoint_pA is None else given.setpoint_pA * PA
    width = None if given.image_nm is None else given.image_nm * NM
    pixels = loaded.heights.shape[1]
    pixel = _range(loaded.width, width, "the size", "image_nm")
    return TrainingConditions(
        given.origin,
        given.material,
        bias=_range(loaded.bias, given.bias_V, "the bias", "bias_V"),
        # Some controllers write the setpoint with the sign of the current; trained for is its
        # magnitude.
        setpoint=_range(np.abs(loaded.setpoint), setpoint, "the setpoint", "setpoint_pA"),
        pixel=pixel and (pixel[0] / pixels, pixel[1] / pixels),
    )


def _range(
    given: NDArray[np.float64], otherwise: float | None, what: str, key: str
) -> tuple[float, float] | None:
    """Find the lowest and highest value in the files; None if a file and the settings lack it."""
    missing = np.isnan(given)
    if otherwise is not None:
        # Only where the file is silent: what it says is what the image was taken at.
        given = np.where(missing, otherwise, given)
    elif missing.any():
        print(
            f"  {missing.sum()} of {len(given)} files do not tell {what} of the image, and neither "
            f"does the setting classifier.{key}: the classifier will be refused unless that is "
            "accepted by name (env.accept_mismatch)"
        )
        return None
    return float(given.min()), float(given.max())


def _simulated(config: Config) -> tuple[Labelled, _Sessions]:
    count = config.classifier.images
    with tqdm(total=count, desc="images", unit="image", mininterval=1) as bar:
        simulated = prepared_images(
            config, count, config.seed, processes=config.run.threads or 1, progress=bar.update
        )
    images = Labelled(simulated.observations[:, 0], simulated.good)
    return images, np.full(count, "simulated")


def _print_contents(loaded: LabelledImages, pixels: int) -> None:
    sessions = len(set(loaded.session))
    print(f"{loaded.good.sum()} good and {(~loaded.good).sum()} bad images, {sessions} sessions")
    sizes = ", ".join(f"{count} of {side} x {side} px" for side, count in loaded.averaged.items())
    if sizes:
        print(f"  averaged to {pixels} x {pixels} px: {sizes}")
    for label, count in loaded.ignored.items():
        print(
            f"  left out: {count} labelled {label!r}"
            if label
            else f"  left out: {count} unlabelled"
        )
