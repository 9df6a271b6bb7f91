"""The texts of a walkthrough's rows are for people: rewording them changes no behaviour."""

from __future__ import annotations

import pytest

import resvox
from resvox.blueprint.trace.recording import Recorder
from resvox.torch.features import FeatureInfo
from resvox.training import Plan
from resvox.training.bfloat16 import _has_flat_map


@pytest.fixture
def reworded(monkeypatch):
    """Every row of every walk carries another text."""
    leaf, group = Recorder.leaf, Recorder.group
    monkeypatch.setattr(Recorder, "leaf", lambda self, path, text, *rest: leaf(self, path, f"Operation: {text}", *rest))
    monkeypatch.setattr(
        Recorder, "group", lambda self, path, text, before, **rest: group(self, path, f"Group: {text}", before, **rest)
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50v2", "resnet50vd"])
def test_feature_info_does_not_read_the_texts(name, reworded):
    blueprint = resvox.get_blueprint(name, spatial_dims=2, in_channels=3, num_classes=2)
    info = FeatureInfo.of(blueprint)
    assert len(info) == 5
    assert info.reduction() == [2, 4, 8, 16, 32]
    assert "Group: " in blueprint.stages((64, 64))[0].operation  # the fixture works


def test_the_bfloat16_check_does_not_read_the_texts(reworded):
    plan = Plan(
        encoder="resnet10", encoder_depth=2, decoder_filters=(8, 8), strides=(2, 2, 1, 1, 1), patch_size=(8, 8, 8)
    )
    assert _has_flat_map(plan)
    assert not _has_flat_map(plan.with_changes(patch_size=(12, 8, 8)))
