"""A classifier is refused for images that it was not trained for, unless accepted by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.config.environment import Mismatch
from spm_gym.imaging.conditions import (
    ClassifierError,
    ImagingConditions,
    TrainingConditions,
    mismatches,
    scan_mismatches,
)
from spm_gym.types import Frame, Scan

NAMES = set(get_args(Mismatch)) - {"height_scale"}  # compared when the classifier is loaded
TRAINED = TrainingConditions(
    "simulated", "MgPc on Ag(100)", (0.5, 1.0), (20e-12, 25e-12), (1.5e-10, 1.6e-10), 0.97, 100
)
FITTING = ImagingConditions("MgPc on Ag(100)", "simulated", 1.0, 25e-12, 1.56e-10)
NEGATIVE = replace(TRAINED, bias=(-1.0, -0.5))
BOTH_SIGNS = replace(TRAINED, bias=(-1.0, 0.5))


def test_fitting_images_are_fine() -> None:
    assert mismatches(TRAINED, FITTING, ()) == {}


@pytest.mark.parametrize(
    ("name", "trained", "inside", "outside"),
    [
        ("bias", TRAINED, [0.25, 0.5, 2.0], [0.249, 2.001, -1.0, 0.0, math.inf, math.nan]),
        ("bias", NEGATIVE, [-0.25, -2.0], [-0.249, -2.001, 1.0, 0.0, -math.inf, math.nan]),
        ("bias", BOTH_SIGNS, [-2.0, 0.1, 1.0], [-2.001, 1.001, math.nan]),
        ("setpoint", TRAINED, [5e-12, 100e-12, float(np.float32(100e-12)), -25e-12],
         [4.99e-12, 100.1e-12, 1e-9, 0.0, math.inf, math.nan]),
        ("pixel", TRAINED, [1.31e-10, 1.83e-10], [1.30e-10, 1.85e-10, 3.1e-10, 0.0, math.nan]),
    ],
)  # fmt: skip
def test_a_number_is_trusted_up_to_its_tolerance_and_no_further(
    name: str, trained: TrainingConditions, inside: Sequence[float], outside: Sequence[float]
) -> None:
    fitting = replace(FITTING, bias=-1.0) if trained is NEGATIVE else FITTING
    for value in inside:
        assert mismatches(trained, replace(fitting, **{name: value}), ()) == {}, value
    for value in outside:
        found = mismatches(trained, replace(fitting, **{name: value}), ())
        assert set(found) == {name}, value
        assert f"env.accept_mismatch: [{name}]" in found[name]
        assert "\n" not in found[name]
        assert mismatches(trained, replace(fitting, **{name: value}), [name]) == {}


def test_what_is_unknown_says_which_setting_tells_it() -> None:
    found = mismatches(TRAINED, replace(FITTING, bias=math.nan, setpoint=math.nan), ())
    assert "real.imaging.bias_V" in found["bias"]
    assert "real.imaging.setpoint_pA" in found["setpoint"]
    blank = TrainingConditions("simulated", auc=0.99)
    found = mismatches(blank, FITTING, ())
    assert {name: setting in found[name] for name, setting in
            [("bias", "classifier.bias_V"), ("setpoint", "classifier.setpoint_pA"),
             ("pixel", "classifier.image_nm")]} == dict.fromkeys(found, True)  # fmt: skip


def test_a_material_counts_where_both_are_known_and_however_it_is_written() -> None:
    for material in (None, "MGPC  on ag(100)"):
        assert mismatches(TRAINED, replace(FITTING, material=material), ()) == {}
    assert mismatches(replace(TRAINED, material=None), FITTING, ()) == {}
    found = mismatches(TRAINED, replace(FITTING, material="C60 on Au(111)"), ())
    assert set(found) == {"material"}
    assert "C60 on Au(111)" in found["material"]
    assert "MgPc on Ag(100)" in found["material"]


def test_simulated_and_real_images_are_distinguished_in_both_directions() -> None:
    assert set(mismatches(TRAINED, replace(FITTING, origin="real"), ())) == {"origin"}
    assert set(mismatches(replace(TRAINED, origin="real"), FITTING, ())) == {"origin"}


@pytest.mark.parametrize(("auc", "fine"), [(0.9, True), (0.899, False), (None, False)])
def test_a_classifier_must_have_shown_that_it_can_tell_good_from_bad(
    auc: float | None, fine: bool
) -> None:
    found = mismatches(replace(TRAINED, auc=auc), FITTING, ())
    assert set(found) == (set() if fine else {"quality"})


@given(accepted=st.sets(st.sampled_from(sorted(NAMES))))
def test_what_is_accepted_is_no_mismatch_and_nothing_else_is_passed_over(
    accepted: set[str],
) -> None:
    nothing = ImagingConditions("gold", "real", math.nan, math.nan, math.nan)
    assert set(mismatches(replace(TRAINED, auc=None), nothing, accepted)) == NAMES - accepted


@pytest.mark.parametrize("conditions", [TRAINED, NEGATIVE, TrainingConditions("real")])
def test_conditions_come_back_from_json_as_they_were(conditions: TrainingConditions) -> None:
    assert TrainingConditions.from_json(conditions.to_json()) == conditions


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bias": [2.0, 1.0]}, "conditions.bias"),
        ({"bias": [math.nan, 1.0]}, "conditions.bias"),
        ({"bias": [1.0, math.inf]}, "conditions.bias"),
        ({"bias": [1.0]}, "conditions.bias"),
        ({"bias": ["1", "2"]}, "conditions.bias"),
        ({"bias": 1.0}, "conditions.bias"),
        ({"bias": [False, True]}, "conditions.bias"),
        ({"setpoint": [-1e-12, 1e-12]}, "conditions.setpoint"),
        ({"setpoint": [0.0, 1e-12]}, "conditions.setpoint"),
        ({"pixel": [2e-10, 1e-10]}, "conditions.pixel"),
        ({"auc": 1.5}, "conditions.auc"),
        ({"auc": math.nan}, "conditions.auc"),
        ({"images": -1}, "conditions.images"),
        ({"images": 0.5}, "conditions.images"),
        ({"origin": "dreamt"}, "conditions.origin"),
        ({"material": "gold\nready"}, "conditions.material"),
        ({"material": "a" * 201}, "conditions.material"),
        ({"material": ""}, "conditions.material"),
        ({"everything": True}, "conditions.everything"),
    ],
)
def test_whatever_makes_no_sense_in_a_file_is_one_line_that_names_it(
    change: dict[str, Any], named: str
) -> None:
    with pytest.raises(ClassifierError) as caught:
        TrainingConditions.from_json(TRAINED.to_json() | change)
    assert named in str(caught.value)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "all", 3, {}])
def test_conditions_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(ClassifierError, match="conditions"):
        TrainingConditions.from_json(value)


def test_a_scan_says_itself_what_it_was_taken_at() -> None:
    frame, z = Frame(0, 0, 10e-9, 64), np.zeros((64, 64), np.float32)
    assert scan_mismatches(TRAINED, Scan(frame, z), ()) == {}
    odd = Scan(replace(frame, size=20e-9), z, bias=-1.0, setpoint=1e-9)
    assert set(scan_mismatches(TRAINED, odd, ())) == {"bias", "setpoint", "pixel"}
    assert set(scan_mismatches(TRAINED, odd, ["bias", "quality"])) == {"setpoint", "pixel"}
