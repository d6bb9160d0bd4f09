"""Who has labelled what, what comes next, and how to take it back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from spm_gym.datasets.agreement import Agreement, agreement
from spm_gym.datasets.manifest import EARLIER, LABELS, ImageLabels, labeller_name
from spm_gym.web.labelling.candidates import Image
from spm_gym.web.labelling.labels import Labels

SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a person: a label in place of the one before, or `SKIP`."""

    file: str
    word: str
    before: str


@dataclass(frozen=True, slots=True)
class LabellingProgress:
    """How far a person is.

    Attributes:
        total: How many images there are.
        by_label: How many of them the person labelled, by label.
        skipped: How many the person skipped.
    """

    total: int
    by_label: dict[str, int]
    skipped: int

    @property
    def labelled(self) -> int:
        """How many the person labelled."""
        return sum(self.by_label.values())


@dataclass(frozen=True, slots=True)
class TrainingLabel:
    """A label that training takes, and the measurement session of its image."""

    file: str
    good: bool
    session: str


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An image that got several labels."""

    image: Image
    labels: ImageLabels


class Desk:
    """All that the page does, one thing at a time.

    Attributes:
        images: Images to be labelled, by file, in the order in which they come.

    Args:
        images: Images to be labelled.
        labels: Where labels are kept.
    """

    def __init__(self, images: Sequence[Image], labels: Labels) -> None:
        self.images: Mapping[str, Image] = {image.file: image for image in images}
        self._files = list(self.images)
        self._places = {file: place for place, file in enumerate(self._files)}
        self._labels = labels
        self._skipped: dict[str, set[str]] = {}
        self._steps: dict[str, list[Step]] = {}
        # Handlers run in threads, and a step must fit the label that it replaces.
        self._lock = threading.RLock()

    def refresh(self) -> None:
        """Read what is on the disk.

        Raises:
            LabelsError: As for `Labels.refresh`.
        """
        with self._lock:
            self._labels.refresh()

    @property
    def labellers(self) -> list[str]:
        """Names of all who have labelled."""
        return self._labels.labellers

    def known_as(self, text: str) -> str | None:
        """Spell the name of a person as before; None if it cannot be a name."""
        name = labeller_name(text)
        known = {other.casefold(): other for other in self.labellers}
        return name and known.get(name.casefold(), name)

    def answer(self, name: str, file: str, label: str) -> None:
        """Keep a label.

        Raises:
            LabelsError: It is not kept.
        """
        with self._lock:
            before = self._labels.set_label(file, name, label)
            self._skipped.get(name, set()).discard(file)
            self._steps.setdefault(name, []).append(Step(file, label, before))

    def skip(self, name: str, file: str) -> None:
        """Leave an image for the end."""
        with self._lock:
            # A label is an answer: what has one is not skipped.
            if self.own_label(name, file):
                return
            self._skipped.setdefault(name, set()).add(file)
            self._steps.setdefault(name, []).append(Step(file, SKIP, ""))

    def undo(self, name: str) -> str | None:
        """Take back the last thing that a person did here.

        Returns:
            The image that it concerned; None if there is nothing.

        Raises:
            LabelsError: The earlier label cannot be kept.
        """
        with self._lock:
            steps = self._steps.get(name)
            if not steps:
                return None
            step = steps[-1]
            if step.word != SKIP:
                self._labels.set_label(step.file, name, step.before)
            self._skipped.get(name, set()).discard(step.file)
            # Last: if the earlier label cannot be kept, it can be tried again.
            steps.pop()
            return step.file

    def last(self, name: str) -> Step | None:
        """Return the step that `undo` would take back."""
        steps = self._steps.get(name)
        return steps[-1] if steps else None

    def offer_skipped(self, name: str) -> None:
        """Let skipped images come again."""
        self._skipped.pop(name, None)

    def own_label(self, name: str, file: str) -> str:
        """Return the label that a person gave an image, or ""."""
        entry = self._labels.entries.get(file)
        return entry.by.get(name, "") if entry else ""

    def next_after(self, name: str, file: str | None) -> str | None:
        """Find the next image that a person has neither labelled nor skipped, around the end.

        Args:
            name: The person.
            file: Where to go on from; None: begin at the start.
        """
        place = 0 if file is None else self._places[file] + 1
        gone = self._labels.by(name).keys() | self._skipped.get(name, set())
        around = (*range(place, len(self._files)), *range(place))
        return next(
            (f for f in (self._files[n] for n in around) if f not in gone and f != file), None
        )

    def beside(self, file: str, step: int) -> str | None:
        """Return the image so many places further on, or None."""
        place = self._places[file] + step
        return self._files[place] if 0 <= place < len(self._files) else None

    def place(self, file: str) -> int:
        """Return the number of an image, from 1."""
        return self._places[file] + 1

    def progress(self, name: str) -> LabellingProgress:
        """Count how far a person is."""
        found = Counter(
            label for file, label in self._labels.by(name).items() if file in self.images
        )
        skipped = len(self._skipped.get(name, ()))
        return LabellingProgress(
            len(self.images), {label: found[label] for label in LABELS}, skipped
        )

    def for_training(self) -> Counter[str]:
        """Count the images of the manifest by the label that training takes."""
        return Counter(entry.label for entry in self._labels.entries.values())

    def training_labels(self) -> list[TrainingLabel]:
        """List the good and bad images as training takes them."""
        with self._lock:
            return [
                TrainingLabel(file, entry.label == "good", self._labels.session(file))
                for file, entry in self._labels.entries.items()
                if file in self.images and entry.label in ("good", "bad")
            ]

    def agreements(self) -> list[Agreement]:
        """Compare every two people who labelled the same images, and everyone with `EARLIER`."""
        labels = {name: self._labels.by(name) for name in self.labellers}
        # Labels from elsewhere may be any words; only ours can agree with ours.
        earlier = {f: label for f, label in self._labels.by(EARLIER).items() if label in LABELS}
        labels |= {EARLIER: earlier}
        every = (agreement(a, b, labels[a], labels[b]) for a, b in combinations(labels, 2))
        return [each for each in every if each.both]

    def disagreements(self, name: str) -> tuple[list[Disagreement], int]:
        """List images with several labels that a person has labelled too; count the others.

        The person shall classify the others alone, so they stay hidden.
        """
        classified = [
            Disagreement(image, self._labels.entries[file])
            for file, image in self.images.items()
            if file in self._labels.entries
        ]
        differing = [d for d in classified if len(set(d.labels.by.values()) & {*LABELS}) > 1]
        own = [each for each in differing if name in each.labels.by]
        return own, len(differing) - len(own)

    def set_consensus(self, file: str, consensus: str) -> None:
        """Keep the consensus of all; "" takes it back.

        Raises:
            LabelsError: It is not kept.
        """
        with self._lock:
            self._labels.set_consensus(file, consensus)
