"""Who has labelled what, what comes next, and how to take it back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from spm_gym.datasets.agreement import Agreement, agreement
from spm_gym.datasets.manifest import EARLIER, LABELS, Judgement, labeller_name
from spm_gym.web.labelling.candidates import Image
from spm_gym.web.labelling.labels import Labels

SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Step:
    """Something a person did: a label in place of what stood there before, or `SKIP`."""

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
class Disagreement:
    """An image that got several labels."""

    image: Image
    verdict: Judgement


class Desk:
    """All that the page does, one thing at a time.

    Attributes:
        images: What is to be labelled, by file, in the order in which it is shown.

    Args:
        images: The same.
        labels: Where labels are kept.
    """

    def __init__(self, images: Sequence[Image], labels: Labels) -> None:
        self.images: Mapping[str, Image] = {image.file: image for image in images}
        self._files = list(self.images)
        self._places = {file: place for place, file in enumerate(self._files)}
        self._labels = labels
        self._skipped: dict[str, set[str]] = {}
        self._steps: dict[str, list[Step]] = {}
        self._one_at_a_time = threading.RLock()

    def refresh(self) -> None:
        """See what is on the disk.

        Raises:
            LabelsError: As for `Labels.refresh`.
        """
        with self._one_at_a_time:
            self._labels.refresh()

    @property
    def labellers(self) -> list[str]:
        """Whoever has labelled."""
        return self._labels.labellers

    def known_as(self, text: str) -> str | None:
        """The name of a person, spelt as before; None if it cannot be a name."""
        name = labeller_name(text)
        known = {other.casefold(): other for other in self.labellers}
        return name and known.get(name.casefold(), name)

    def answer(self, name: str, file: str, label: str) -> None:
        """Keep a label.

        Raises:
            LabelsError: It is not kept.
        """
        with self._one_at_a_time:
            before = self._labels.say(file, name, label)
            self._skipped.get(name, set()).discard(file)
            self._steps.setdefault(name, []).append(Step(file, label, before))

    def skip(self, name: str, file: str) -> None:
        """Leave an image for the end."""
        with self._one_at_a_time:
            if self.own_label(name, file):
                return
            self._skipped.setdefault(name, set()).add(file)
            self._steps.setdefault(name, []).append(Step(file, SKIP, ""))

    def undo(self, name: str) -> str | None:
        """Take back the last thing that a person did here.

        Returns:
            The image that it concerned; None if there is nothing.

        Raises:
            LabelsError: What stood there before cannot be kept.
        """
        with self._one_at_a_time:
            steps = self._steps.get(name)
            if not steps:
                return None
            step = steps[-1]
            if step.word != SKIP:
                self._labels.say(step.file, name, step.before)
            self._skipped.get(name, set()).discard(step.file)
            steps.pop()
            return step.file

    def last(self, name: str) -> Step | None:
        """What `undo` would take back."""
        steps = self._steps.get(name)
        return steps[-1] if steps else None

    def look_again(self, name: str) -> None:
        """Let skipped images come again."""
        self._skipped.pop(name, None)

    def own_label(self, name: str, file: str) -> str:
        """What a person said of an image, or ""."""
        verdict = self._labels.verdict.get(file)
        return verdict.by.get(name, "") if verdict else ""

    def next_after(self, name: str, file: str | None) -> str | None:
        """The next image that a person has neither labelled nor skipped, from the start at the end.

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
        """The image so many places further on, or None."""
        place = self._places[file] + step
        return self._files[place] if 0 <= place < len(self._files) else None

    def place(self, file: str) -> int:
        """Number of an image, from 1."""
        return self._places[file] + 1

    def progress(self, name: str) -> LabellingProgress:
        """How far a person is."""
        found = Counter(
            label for file, label in self._labels.by(name).items() if file in self.images
        )
        skipped = len(self._skipped.get(name, ()))
        return LabellingProgress(
            len(self.images), {label: found[label] for label in LABELS}, skipped
        )

    def for_training(self) -> Counter[str]:
        """How many images the manifest lists, by the label that training sees."""
        return Counter(verdict.label for verdict in self._labels.verdict.values())

    def agreements(self) -> list[Agreement]:
        """Of every two people who labelled the same images, and of everyone with `EARLIER`."""
        said = {name: self._labels.by(name) for name in self.labellers}
        earlier = {f: label for f, label in self._labels.by(EARLIER).items() if label in LABELS}
        said |= {EARLIER: earlier}
        every = (agreement(a, b, said[a], said[b]) for a, b in combinations(said, 2))
        return [each for each in every if each.both]

    def disagreements(self, name: str) -> tuple[list[Disagreement], int]:
        """Images that got several labels, of those that a person has labelled; how many others.

        The others are not shown, for the person shall classify them alone.
        """
        classified = [
            Disagreement(image, self._labels.verdict[file])
            for file, image in self.images.items()
            if file in self._labels.verdict
        ]
        differing = [d for d in classified if len(set(d.verdict.by.values()) & {*LABELS}) > 1]
        shown = [each for each in differing if name in each.verdict.by]
        return shown, len(differing) - len(shown)

    def settle(self, file: str, consensus: str) -> None:
        """Keep what all settled on; "" takes it back.

        Raises:
            LabelsError: It is not kept.
        """
        with self._one_at_a_time:
            self._labels.settle(file, consensus)
