"""Settings of the networks and of their training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from spm_gym.config.sections import Count, Fraction, NonNegative, Positive, Section, Text


class NetworkConfig(Section):
    """A member of the paper's VGG family (paper, *Networks*).

    Attributes:
        channels: Feature maps of each set of 3x3 convolutions.
        convolutions: Convolutions in each set.
        pooled_sets: How many of the first sets are followed by 2x2 max pooling.
        average_maps: Whether each of the last feature maps is averaged over the image, which says
            what is on it and not where.
        stem_stride: Stride of the very first convolution.
        hidden: Units of each fully connected layer before the output.
        norm: Normalisation on every layer but the output.
        dropout: Dropout after each fully connected layer.
    """

    # Of the paper's family, but a six-thousandth of its 561 million weights, to learn in minutes on
    # two cores; configs/paper.yaml has the paper's.
    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 32, 64, 64)
    convolutions: Count = 1
    pooled_sets: Annotated[int, Field(ge=0)] = 4
    average_maps: bool = False
    stem_stride: Annotated[int, Field(ge=1, le=4)] = 2
    hidden: tuple[Count, ...] = (128,)
    # An agent with batch norm that begins with the classifier's weights learned worse (0.67 against
    # 0.88 to 0.94, docs/deviations.md).
    norm: Literal["batch", "group", "none"] = "none"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _pools_what_it_has(self) -> NetworkConfig:
        if self.pooled_sets > len(self.channels):
            raise ValueError(
                f"pooled_sets must be at most the number of sets, {len(self.channels)}, "
                f"not {self.pooled_sets}"
            )
        return self


class AugmentationConfig(Section):
    """Random changes of the images that a classifier learns from.

    Attributes:
        flips: Whether to mirror them along either axis.
        crop: Side of the part that is taken, at a random place, as a share of the image's.
        contrast: Standard deviation of the logarithm of a factor on the heights.
        line_noise: Most noise from line to line, in units of normalised images.
        noise: Most noise from pixel to pixel.
        rotation_deg: Most that they are turned; scan lines then are none any more.
    """

    flips: bool = True
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    contrast: NonNegative = 0.0
    line_noise: NonNegative = 0.0
    noise: NonNegative = 0.0
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0


class ClassifierConfig(Section):
    """Training of the image classifier (paper, *Networks*).

    Attributes:
        data: Labelled images to train on, a folder or an ``.npz`` file; None simulates them.
        unlabelled: Further scans to pretrain on, likewise, whatever their labels.
        images: Simulated images to train and validate on.
        start: What training on a lab's images begins with: "shipped", the trunk of the included
            classifier; "pretrained", one that has learned from all images without their labels; or
            "scratch". "auto" takes the included one for images that it knows, one that is
            pretrained if `unlabelled` is given, and otherwise "scratch". It fills in the settings
            of `LAB` where no others are given, and so does "pretrained".
        pretraining_epochs: Passes of pretraining through all images; None takes ten, and of few
            images more, until there are 1,300 batches.
        pretraining_rate: Learning rate of pretraining.
        height_scale: What one unit of normalised images is: "fixed", half the height of MgPc;
            "measured", half the height of the lab's good images; "image", twice the spread of
            each image.
        pixels: Side of the images; None takes `env.pixels`.
        split: Whether single images or whole measurement sessions are kept for validation.
        validation_fraction: Share of the images that is kept.
        folds: Number of parts that are kept in turn; the networks that were trained without each of
            them are the members of the classifier. None keeps one part and trains one network.
        patience: Epochs without a lower loss on sessions put aside, after which the best network so
            far is taken; None trains to the end.
        good_weight: Weight of good images in the loss: multiplies the odds of a good probe.
        rater_weight: Power of the number of people who labelled an image, by which it weighs: with
            0 all images count the same, with 1 all opinions.
        average_flips: Whether an answer is the mean over the four mirror images.
        statistics: Whether each network gets a small one on statistics of the image beside it, with
            a weight that is fitted to held-out images.
        counterexamples: Images without molecules that join the training as bad ones, as a share
            of the training images.
        epochs: None takes ten, and of few images more, until there are two hundred batches.
        refuse_poor: Whether a classifier with bad scores is not written.
        device: A torch device; "auto" takes a GPU if there is one.
        origin: Of the images of a lab; those of a simulated run are simulated. This and the
            following are written into the classifier, which is refused for other images.
        material: Sample on the images of a lab, such as "MgPc on Ag(100)".
        bias_V: Sample bias of images whose files do not contain it.
        setpoint_pA: Current setpoint of images whose files do not contain it.
        image_nm: Side of images whose files do not contain it.
    """

    network: NetworkConfig = NetworkConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    data: Path | None = None
    unlabelled: Path | None = None
    images: Count = 40_000
    start: Literal["auto", "shipped", "pretrained", "scratch"] = "auto"
    pretraining_epochs: Count | None = None
    pretraining_rate: Positive = 2e-3
    height_scale: Literal["fixed", "measured", "image"] = "fixed"
    pixels: Count | None = None
    # The paper trains on 76 % of its images and keeps 24 %.
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.24
    split: Literal["image", "session"] = "image"
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    patience: Count | None = None
    epochs: Count | None = None
    batch_size: Count = 64
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 5e-5
    # As in the released script; the paper says 8.
    good_weight: Positive = 3.0
    rater_weight: NonNegative = 0.0
    average_flips: bool = False
    statistics: bool = False
    # Without them a bare terrace is called good; with half as many, 1 of 249 foreign images was.
    counterexamples: Fraction = 0.2
    refuse_poor: bool = True
    device: str = "auto"
    origin: Literal["real", "simulated"] = "real"
    material: Text | None = None
    bias_V: float | None = None
    setpoint_pA: Positive | None = None
    image_nm: Positive | None = None

    @model_validator(mode="after")
    def _crops_for_any_side(self) -> ClassifierConfig:
        if self.augmentation.crop < 1 and not self.network.average_maps:
            raise ValueError(
                "augmentation.crop below 1 needs network.average_maps=true: other networks take "
                "images of one side only"
            )
        return self


# Measured on real images with people's labels (docs/classifier.md, *Real images*). What is on an
# image and not where decides, so the maps are averaged; a third of the sides is lost to crops.
LAB: dict[str, Any] = {
    "network": NetworkConfig(channels=(16, 32, 64, 96), hidden=(), norm="batch", average_maps=True),
    "augmentation": AugmentationConfig(crop=5 / 6, contrast=0.15, line_noise=0.08, noise=0.05),
    "height_scale": "image",
    "pixels": 96,
    "split": "session",
    "folds": 5,
    "learning_rate": 2e-3,
    "good_weight": 1.0,
    "average_flips": True,
    "statistics": True,
    "counterexamples": 0.0,
}
"""Settings for images of a sample that the included classifier does not know, from scratch."""

# A network that begins with features must not lose them: with the rate of one from scratch 300
# labels are worth hardly more than from scratch (docs/classifier.md, *Pretraining*).
LAB_PRETRAINED: dict[str, Any] = LAB | {"learning_rate": 5e-4}
"""The same for a network that is pretrained."""


class RecogniserConfig(Section):
    """Training of the recogniser of the probe's class.

    Attributes:
        images: Simulated images to train on, of randomised settings.
        validation_images: Further images of the settings as they are, for each number of lines, to
            score it on.
        line_steps: Pixels from line to line, of which each training image gets one at random: 1 is
            a full image, more a preview. Divisors of ``env.pixels``.
        bent_share: Share of the settings drawn in the mode "linear" whose mean over the heights is
            bent, that is one of a random power (`SimulatorConfig.mode`), so that other models of
            imaging than the simulator's are recognised.
        epochs: Passes through the training images.
        learning_rate: The highest, of a one-cycle schedule.
        shift_pixels: Most pixels by which an image is moved along either axis.
    """

    network: NetworkConfig = NetworkConfig()
    # Of fewer a class of probes may be missing, and of the latter a good one.
    images: Annotated[int, Field(ge=400)] = 60_000
    validation_images: Annotated[int, Field(ge=100)] = 3_000
    line_steps: Annotated[tuple[Count, ...], Field(min_length=1)] = (8, 4, 4, 2, 1)
    bent_share: Fraction = 0.0
    epochs: Count = 10
    batch_size: Count = 64
    learning_rate: Positive = 2e-3
    shift_pixels: Annotated[int, Field(ge=0)] = 4


class BeliefConfig(Section):
    """The belief agent: what it begins with, how it explores and learns.

    Attributes:
        recogniser: File of the recogniser of the probe's class; None for the one in the package.
        prior: What is known of the actions before the first one: "none"; "simulator", the table of
            transitions in the package, whatever `simulator.transitions` names; or the run directory
            or checkpoint of a belief agent, to go on from what it has learned.
        table_strength: Observations of each row that the table in the package counts for.
        run_strength: Observations of a row that those of an earlier run count for at most.
        random_actions: Random ones at the beginning, without a prior.
        greedy_until: Actions, without a prior, until which it follows the plan on the mean table;
            afterwards, and always with a prior, a table drawn for each episode.
        random_share: Of random actions until then.
        learn_every: Actions between two updates of the table.
        rounds: Of expectation-maximisation in an update.
    """

    recogniser: Path | None = None
    prior: str = "none"
    # With six observations 1,500 actions of learning make an agent worse whose recogniser has never
    # met such images; where the table is wrong, 20 are unlearned almost as fast (docs/belief.md).
    table_strength: Positive = 20.0
    # The tip of another day was another one, and the sample perhaps, too: thirty observations of
    # today outweigh whatever was learned on them.
    run_strength: Positive = 30.0
    random_actions: Annotated[int, Field(ge=0)] = 200
    greedy_until: Annotated[int, Field(ge=0)] = 500
    random_share: Fraction = 0.05
    learn_every: Count = 25
    rounds: Count = 8


class AgentConfig(Section):
    """The agent: a double DQN (paper, *Double DQN*), to which all but the first three belong.

    Attributes:
        kind: Which agent learns: "double-dqn", the paper's, or "belief", which learns what the
            actions do to the probe instead of their values (docs/belief.md).
        steps: Actions of a whole training run, prefill included.
        belief: Settings of the belief agent.
        network: Of the Q-values; the classifier's, with another output layer, if `from_classifier`.
        from_classifier: Whether to begin with the weights of the environment's classifier.
        prefill: Random actions before learning begins.
        buffer_steps: Steps that the replay buffer keeps; the paper's 15,000 experiences are 3,750
            steps in four orientations.
        final_learning_rate: Share of the learning rate that is left at the end.
        flips: Whether sampled steps are mirrored at random.
        shift_pixels: Most pixels by which sampled images are moved.
        epsilon_steps: Actions over which epsilon falls, after the prefill.
        target_every: Gradient steps between two copies to the target network.
        replay_ratio: Gradient steps per action.
        parallel: Whether acting and learning share the time in two threads; alone, a run can be
            repeated bit for bit.
        max_lag: Gradient steps by which learning may lag behind before acting waits.
        device: A torch device; "auto" takes a GPU if there is one.
        precision: Of learning: "float32"; on a GPU "auto" is "tf32", whose products have 10 bits;
            "bfloat16", 8 bits, keeps weights and output layer in float32.
        compile: Whether learning goes through torch.compile, which takes a minute at the start.
    """

    kind: Literal["double-dqn", "belief"] = "double-dqn"
    steps: Annotated[int, Field(ge=0)] = 5_360
    belief: BeliefConfig = BeliefConfig()
    network: NetworkConfig = NetworkConfig()
    from_classifier: bool = True
    prefill: Annotated[int, Field(ge=0)] = 500
    # All of a run, unlike the paper: the early random actions are what a greedy one is compared
    # with.
    buffer_steps: Count = 5_360
    batch_size: Count = 64
    gamma: Fraction = 0.95
    learning_rate: Positive = 5e-4
    # The prototype scored 0.87 so, and 0.84 with a constant rate (docs/deviations.md).
    final_learning_rate: Fraction = 0.02
    loss: Literal["mse", "huber"] = "mse"
    max_grad_norm: Positive | None = None
    flips: bool = True
    # Against learning images by heart: 0.85 with shifts, 0.78 without, one seed each.
    shift_pixels: Annotated[int, Field(ge=0)] = 4
    epsilon_start: Fraction = 1.0
    epsilon_end: Fraction = 0.05
    epsilon_steps: Count = 500
    target_every: Count = 100
    # More gradient steps lead at first, then fit too closely what few transitions there are.
    replay_ratio: Positive = 1.0
    parallel: bool = True
    max_lag: Count = 8
    device: str = "auto"
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    compile: bool = False
