"""Labels that name a side, in many languages, and the axes that may then be mirrored."""

from __future__ import annotations

from importlib import import_module

import pytest

from resvox.training.plans.sides import safe_mirror_axes, sides_named

SIDED = [
    ["left lung", "right lung"], ["Niere links", "Niere rechts"], ["linke Niere"], ["rein gauche", "rein droit"],
    ["main droite"], ["riñón izquierdo", "riñón derecho"], ["rene sinistro", "rene destro"], ["rim esquerdo"],
    ["rim direito"], ["linkernier", "rechternier"], ["nerka lewa", "nerka prawa"], ["njure vänster"], ["lunge højre"],
    ["lunge høyre"], ["vasen munuainen"], ["pravá ledvina"], ["левая почка"], ["правый лёгкое"], ["左肾"], ["右腎"],
    ["오른쪽 신장"], ["الكلية اليسرى يسرى"], ["Lkidney", "Rkidney"], ["LKidney", "RKidney"], ["kidneyL"],
    ["lung LLL", "lung RUL"],
    ["LV", "RV", "MYO"], ["rein_G", "rein_D"], ["Niere li", "Niere re"], ["rene_sx"], ["kidney-R"],
    ["lh cortex"],
]  # fmt: skip
PLAIN = [
    ["vertebra L1", "vertebra L5", "T12"], ["L1", "L2", "S1"], ["vertebrae_L3"], ["liver", "spleen", "lung", "rib"],
    ["levator ani", "rectum", "larynx"], ["Leber", "Milz", "Gallenblase"], ["foie", "rate", "estomac"],
    ["edema", "necrosis", "enhancing"], ["label_1", "label_2"], ["tumour core"], ["class_l1", "class_r2"],
]  # fmt: skip


@pytest.mark.parametrize("names", SIDED)
def test_sides_are_known(names):
    assert "L" in sides_named(names)
    assert safe_mirror_axes(names, "SPL", 3) == (0, 1)


@pytest.mark.parametrize("names", PLAIN)
def test_other_names_leave_all_axes_free(names):
    assert "L" not in sides_named(names)
    assert 2 in safe_mirror_axes(names, "SPL", 3)


@pytest.mark.parametrize(
    ("name", "axis"), [("Oberlappen", "S"), ("lobe supérieur", "S"), ("hinterer Teil", "P"), ("corne antérieure", "P")]
)
def test_the_other_axes_of_the_body(name, axis):
    assert axis in sides_named([name])


def test_the_former_place_of_the_rules():
    assert import_module("resvox.training.drawing").safe_mirror_axes is safe_mirror_axes
