"""Label names to SNOMED CT codes; the table against pydicom's copy of DICOM PS3.16."""

from __future__ import annotations

import csv
from importlib import resources

import pytest
from pydicom.sr.codedict import codes

from resvox.delivery.codes import CATEGORIES, SIDE_CODES, structure_of
from resvox.delivery.naming import label_set
from resvox.errors import VolumeError

ROWS = list(
    csv.DictReader((resources.files("resvox.delivery") / "structures.csv").read_text(encoding="utf-8").splitlines())
)


def standard_codes() -> dict[str, set[str]]:
    """Value -> meanings of all SNOMED CT concepts that DICOM's context groups use."""
    found: dict[str, set[str]] = {}
    for name in dir(codes.SCT):
        concept = getattr(codes.SCT, name)
        if hasattr(concept, "value"):
            found.setdefault(concept.value, set()).add(concept.meaning)
    return found


def test_every_code_of_the_table_is_one_of_the_standard_with_its_meaning():
    standard = standard_codes()
    given = [(row["code"], row["meaning"]) for row in ROWS]
    given += [(code.value, code.meaning) for code in (*CATEGORIES.values(), *SIDE_CODES.values())]
    wrong = [(value, meaning) for value, meaning in given if meaning not in standard.get(value, set())]
    assert wrong == []
    assert "Liver" not in standard.get("78961009", set())  # the check can fail


def test_names_and_aliases_are_unique():
    names = [name for row in ROWS for name in (row["name"], *filter(None, row["aliases"].split("|")))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "meaning", "side"),
    [
        ("liver", "Liver", None),
        ("Liver", "Liver", None),
        ("left lung", "Lung", "Left"),
        ("kidney_right", "Kidney", "Right"),
        ("Kidney_L", "Kidney", "Left"),
        ("lung_upper_lobe_left", "Upper lobe of lung", "Left"),
        ("heart_ventricle_left", "Left ventricle", None),
        ("vertebrae_L1", "L1 vertebra", None),
        ("L1", "L1 vertebra", None),
        ("rib_left_7", "Rib", "Left"),
        ("ribs", "Rib", None),
        ("spine", "Spine", None),
        ("edema", "Edema", None),
    ],
)
def test_names_as_people_write_them(name, meaning, side):
    found = structure_of(name)
    assert (found.type.meaning, found.side and found.side.meaning) == (meaning, side)


def test_an_unknown_name_gets_a_private_code_of_its_own():
    first, second = structure_of("flux capacitor"), structure_of("warp core")
    assert first.type.scheme == second.type.scheme == "99RESVOX"
    assert first.type.value != second.type.value
    assert first.type.meaning == "flux capacitor"
    assert structure_of("x" * 200).type.meaning == "x" * 64


def test_given_codes_win_and_broken_ones_are_named():
    given = {"type": {"value": "123", "meaning": "Thing", "scheme": "99ME"}, "side": "left"}
    found = structure_of("liver", given)
    assert (found.type.value, found.side.meaning, found.category.meaning) == ("123", "Left", "Anatomical Structure")
    with pytest.raises(VolumeError, match=r"type code .* of label 'liver'"):
        structure_of("liver", {"type": {"value": "123"}})
    with pytest.raises(VolumeError, match="side 'up' of label 'liver'"):
        structure_of("liver", {"side": "up"})


@pytest.mark.parametrize("labels", [{"background": 0}, {"a": 1, "b": 1}, {"a": -1}])
def test_labels_without_meaning_are_refused(labels):
    with pytest.raises(VolumeError, match="label values"):
        label_set(labels)
