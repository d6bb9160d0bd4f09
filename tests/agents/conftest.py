"""A small classifier, trained once a module on images of blobs."""

from __future__ import annotations

import pytest

from agents.classifier import ProbeClassifier
from agents.classifier_fit import fit
from agents.labelled import Labelled
from tests.support.blobs import QUICK, blobs


@pytest.fixture(scope="module")
def data() -> Labelled:
    return blobs(1500, seed=0)


@pytest.fixture(scope="module")
def others() -> Labelled:
    return blobs(600, seed=1)


@pytest.fixture(scope="module")
def trained(data: Labelled) -> ProbeClassifier:
    return ProbeClassifier([fit(data, QUICK, seed=0)[0]])
