"""Which image comes next, and who sees what."""

from __future__ import annotations

from pathlib import Path

from spm_gym.web.labelling.candidates import Image, in_order
from spm_gym.web.labelling.labels import Labels
from tests.support.labelling import FILES, candidates, desk_of


def test_order() -> None:
    probabilities = {"a": 0.99, "b": 0.52, "c": 0.4, "d": 0.48, "e": 0.5}
    images = [Image(f, Path(f), 64, None, None, p) for f, p in reversed(probabilities.items())]

    def listed(order: str, before: str = "") -> str:
        return "".join(image.file for image in in_order(images, order, before.__contains__))

    assert listed("uncertain") == "ebdca"
    assert listed("uncertain", before="eb") == "dcaeb"
    assert listed("name") == "abcde"
    assert sorted(listed("random")) == list("abcde")
    assert listed("random") == listed("random") != "abcde"


def test_what_is_skipped_comes_again(tmp_path: Path) -> None:
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)
        first, second, *rest = FILES
        desk.skip("Anna", first)
        for file in (second, *rest):
            assert desk.next_after("Anna", None) == file
            assert desk.next_after("Ben", None) == first
            desk.answer("Anna", file, "good")
        assert desk.next_after("Anna", None) is None
        assert desk.progress("Anna").skipped == 1
        desk.offer_skipped("Anna")
        assert desk.next_after("Anna", None) == first


def test_only_who_has_classified_sees_a_disagreement(tmp_path: Path) -> None:
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)
        desk.answer("Anna", "1.npy", "good")
        desk.answer("Ben", "1.npy", "bad")
        listed, hidden = desk.disagreements("Anna")
        assert ([each.image.file for each in listed], hidden) == (["1.npy"], 0)
        assert desk.disagreements("Eve") == ([], 1)
