"""The registry of peers: a peer is one file, and what a new one needs besides is one line of the registry."""

from __future__ import annotations

import pathlib
import re

import pytest

import resvox
from resvox.errors import WeightsError
from resvox.weights import importers
from resvox.weights.importers import registry
from resvox.weights.importers.importer import Evidence, Importer, Peer
from resvox.weights.importers.table import Row, Table

FOLDER = pathlib.Path(importers.__file__).parent
SHARED = {"__init__", "importer", "monai_networks", "registry", "rows", "table"}
SOURCE = pathlib.Path(resvox.__file__).parent


def peer_files():
    return {path.stem for path in FOLDER.glob("*.py")} - SHARED


def test_every_file_of_a_peer_is_registered_and_its_file_has_its_name():
    registered = {module.__name__.rpartition(".")[2]: module.PEER.name for module in registry.MODULES}
    assert set(registered) == peer_files()
    assert {file: name.replace(".", "_") for file, name in registered.items()} == {name: name for name in registered}


@pytest.mark.parametrize("peer", registry.BY_NAME)
def test_no_other_source_file_decides_by_the_name_of_a_peer(peer):
    quoted = re.compile(rf"""["']{re.escape(peer)}["']""")
    guilty = [
        str(path.relative_to(SOURCE))
        for folder in ("weights", "cli", "workflow/convert.py")
        for path in ((SOURCE / folder).rglob("*.py") if (SOURCE / folder).is_dir() else [SOURCE / folder])
        if path.stem != peer.replace(".", "_") and quoted.search(path.read_text(encoding="utf-8"))
    ]
    assert guilty == []


def test_a_new_peer_is_read_written_and_named_in_errors(monkeypatch, tmp_path):
    table = Table(
        tuple(
            Row(row.ours, "net/" + row.theirs.replace(".", "/"), row.kind)
            for row in registry.BY_NAME["torchvision"].importers[0].table.rows
        )
    )
    toy = Peer(importers=(Importer(peer="toy", title="the toy library", table=table),))
    monkeypatch.setitem(registry.BY_NAME, "toy", toy)
    for module in ("registry", "naming", "exporting"):
        where = "resvox.weights.importers.registry" if module == "registry" else f"resvox.weights.{module}"
        monkeypatch.setattr(f"{where}.PEERS", (*registry.BY_NAME, "resvox"))
    model = resvox.create_model("resnet10", widths=(4, 4, 4, 4), stem_width=4, num_classes=2)
    path = resvox.export_weights(model, tmp_path / "toy.safetensors", peer="toy")
    again = resvox.create_model("resnet10", widths=(4, 4, 4, 4), stem_width=4, num_classes=2)
    report = resvox.load_weights(again, path)
    assert report.peer == "the toy library"
    assert all(bool((a == b).all()) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(WeightsError, match="toy"):
        resvox.load_weights(again, path, peer="unknown")


def test_evidence_is_read_from_shapes():
    flat = Evidence(shapes={"conv1.weight": (8, 3, 7, 7), "layer1.0.downsample.0.bias": (8,)})
    assert (flat.spatial_dims, flat.in_channels, flat.has_shortcut_bias, flat.has_classifier) == (2, 3, True, False)
    deep = Evidence(shapes={"conv1.weight": (8, 1, 7, 7, 7), "fc.weight": (2, 8)})
    assert (deep.spatial_dims, deep.in_channels, deep.has_shortcut_bias, deep.has_classifier) == (3, 1, False, True)
    assert Evidence(shapes={}).in_channels == 0
