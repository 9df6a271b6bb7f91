"""Publish to a hub and load from it: a stand-in on loopback answers what huggingface_hub asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub.stand_in import TOKEN
from typer.testing import CliRunner

import resvox
from resvox import workflow
from resvox.cli import app
from resvox.errors import WeightsError
from resvox.hub.client import hub_module
from resvox.hub.fetching import local_path, pinned

SOURCE = Path(resvox.__file__).resolve().parents[1]
WHERE = "hf://owner/tiny"


@pytest.fixture
def run(make_model, tmp_path):
    """The folder of a run that holds nothing but its model."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    shutil.copy(make_model(), folder)
    return folder


@pytest.fixture
def published(hub, run):
    workflow.publish(run, WHERE, licence="apache-2.0", data="Three toy scans.")
    return hub


def blob_of(path):
    return Path(local_path(path)).resolve()


def test_a_published_run_holds_the_model_and_a_card(hub, run):
    result = workflow.publish(run, WHERE, licence="CC-BY-NC-4.0", data="Three toy scans.")
    files = hub.files("owner/tiny")
    assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    card = files["README.md"].decode()
    assert card == result.readme
    assert card.startswith('---\nlicense: "cc-by-nc-4.0"\nlibrary_name: "resvox"\npipeline_tag: "image-segmentation"\n')
    for text in ("Three toy scans.", "| 7 | bright |", "| channels | CT |", f'load_model("{WHERE}")', "Not a medical"):
        assert text in card
    assert result.url.startswith(hub.endpoint)
    assert result.commit == hub.repositories["owner/tiny"].branches["main"]


def test_the_card_states_the_scores_of_the_training(make_model, tmp_path, hub):
    header = resvox.weights.read_header(make_model())
    training = {"dataset": "Toy | one", "step": 30, "steps": 40, "dice": {"bright": 0.87654, "dark": None}}
    path = tmp_path / "model.safetensors"
    resvox.save_model(resvox.load_model(make_model()), path, metadata={**header.metadata, "training": training})
    card = workflow.publish(path, WHERE, licence="mit", dry_run=True).readme
    assert "| Dice, bright | 0.8765 |" in card
    assert "| dataset | Toy \\| one |" in card
    assert "dark |" not in card.split("## Data and scores")[1]
    assert hub.requests == []  # a rehearsal sends nothing


def test_the_card_names_regions(make_model, tmp_path):
    header = resvox.weights.read_header(make_model())
    regions = {"regions": {"whole": [3, 7], "dark": [3], "core": [7]}, "regions_class_order": [3, 3, 7]}
    path = tmp_path / "model.safetensors"
    labels = {"background": 0, "dark": 3, "bright": 7}
    resvox.save_model(resvox.load_model(make_model()), path, metadata={**header.metadata, "labels": labels, **regions})
    card = workflow.publish(path, WHERE, licence="mit", dry_run=True).readme
    assert "| whole | 3, 7 |" in card
    assert "| 7 | bright |" in card


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_published_model_is_loaded_in_both_frameworks_and_offline(published, run, framework, offline):
    scan = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = resvox.load_model(run / "model.safetensors")(scan).detach().numpy()

    def output(model):
        if framework == "torch":
            return model(scan).detach().numpy()
        channels_last = np.moveaxis(scan.numpy(), 1, -1)
        return np.moveaxis(model.predict(channels_last, verbose=0), -1, 1)  # an array of NumPy with any backend

    assert np.abs(output(resvox.load_model(WHERE, framework=framework)) - expected).max() <= 1e-5
    asked = len(published.requests)
    offline()
    assert np.abs(output(resvox.load_model(WHERE, framework=framework)) - expected).max() <= 1e-5
    assert len(published.requests) == asked  # the second model comes from the cache alone


def test_without_the_hub_the_cache_is_used(published, point_to):
    first = resvox.load_model(WHERE)
    point_to("http://127.0.0.1:9")  # nothing listens there
    again = resvox.load_model(WHERE)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with pytest.raises(WeightsError, match=r"^hf://owner/other: not in the cache, and the hub cannot be reached"):
        resvox.load_model("hf://owner/other")


def test_a_revision_is_a_branch_or_a_commit(published, run, make_model, offline):
    old = published.repositories["owner/tiny"].branches["main"]
    model = resvox.load_model(run / "model.safetensors")
    next(iter(model.parameters())).data.fill_(7)
    changed = resvox.save_model(
        model, run / "model.safetensors", metadata=resvox.weights.read_header(make_model()).metadata
    )
    result = workflow.publish(run, f"{WHERE}@v2", licence="apache-2.0")
    assert sorted(published.repositories["owner/tiny"].branches) == ["main", "v2"]
    assert published.files("owner/tiny", "v2")["model.safetensors"] == changed.read_bytes()

    def total(address):
        return sum(float(value.detach().sum()) for value in resvox.load_model(address).parameters())

    assert total(f"{WHERE}@v2") == total(f"{WHERE}@{result.commit}") == total(changed)
    assert total(WHERE) == total(f"{WHERE}@{old}") == total(make_model()) != total(changed)
    assert pinned(f"{WHERE}@v2") == f"{WHERE}@{result.commit}"
    assert pinned("model.safetensors") == "model.safetensors"
    offline()
    assert total(f"{WHERE}@v2") == total(changed)
    with pytest.raises(WeightsError, match="not in the cache"):
        resvox.load_model(f"{WHERE}@v3")


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert TOKEN not in text
    return text


@pytest.mark.parametrize("damage", ["a changed byte", "cut short", "emptied"])
@pytest.mark.parametrize("read", [resvox.load_model, lambda where: workflow.predict(where, "scan.nii.gz", "out")])
def test_a_damaged_file_in_the_cache_is_one_line_with_the_way_on(published, damage, read):
    resvox.load_model(WHERE)
    blob = blob_of(f"{WHERE}/model.safetensors")
    content = bytearray(blob.read_bytes())
    content[-3] ^= 1
    blob.write_bytes({"a changed byte": bytes(content), "cut short": content[:-9], "emptied": b""}[damage])
    with pytest.raises(WeightsError) as caught:
        read(WHERE)
    text = one_line(caught)
    assert text.startswith(f"{WHERE}: model.safetensors is damaged in the cache")
    assert f"fix: delete {blob}" in text
    blob.unlink()
    resvox.load_model(WHERE)


def test_a_file_that_is_no_model_on_the_hub_is_one_line(published):
    published.repositories["owner/tiny"].add("main", {"model.safetensors": b"no tensors"})
    with pytest.raises(WeightsError) as caught:
        resvox.load_model(WHERE)
    assert "not a safetensors file" in one_line(caught)


@pytest.mark.parametrize("call", [
    lambda run: resvox.load_model(WHERE),
    lambda run: workflow.publish(run, WHERE, licence="mit"),
    lambda run: workflow.predict(WHERE, "scan.nii.gz", "out"),
])  # fmt: skip
def test_without_the_extra_it_is_one_line(run, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError) as caught:
        call(run)
    text = one_line(caught)
    assert text.startswith(f"{WHERE}: a model on a hub, and huggingface_hub is not installed")
    assert "pip install 'resvox[hub]'" in text


def test_an_import_that_fails_inside_of_huggingface_hub_is_not_hidden(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="tqdm")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        hub_module(WHERE)


def test_refusals_are_one_line_without_the_token(hub, run, monkeypatch):
    for where, expected in (("hf://owner/none", "no such repository"), (f"{WHERE}@v9", "no such rev")):
        if "tiny" in where:
            workflow.publish(run, WHERE, licence="mit", private=True)
        with pytest.raises(WeightsError, match=expected) as caught:
            resvox.load_model(where)
        assert one_line(caught).startswith(where)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for call in (lambda: resvox.load_model(f"{WHERE}@main"), lambda: workflow.publish(run, WHERE, licence="mit")):
        with pytest.raises(WeightsError, match="asks for a token") as caught:
            call()
        assert "hf_wrong" not in one_line(caught)
        assert "set HF_TOKEN" in str(caught.value)


def test_a_readme_on_the_hub_is_kept_unless_asked(published, run):
    repository = published.repositories["owner/tiny"]
    repository.add("main", {**published.files("owner/tiny"), "README.md": b"by hand"})
    result = workflow.publish(run, WHERE, licence="apache-2.0")
    assert result.kept_readme
    assert "README.md" not in result.files
    assert published.files("owner/tiny")["README.md"] == b"by hand"
    workflow.publish(run, WHERE, licence="apache-2.0", new_readme=True)
    assert published.files("owner/tiny")["README.md"].startswith(b"---\nlicense")


def test_folds_are_published_and_averaged_and_a_single_model_replaces_them(hub, run, tmp_path, write_scan):
    folds = tmp_path / "folds"
    for name in ("fold_0", "fold_1"):
        shutil.copytree(run, folds / name)
    result = workflow.publish(folds, WHERE, licence="mit")
    assert result.files == ("fold_0/model.safetensors", "fold_1/model.safetensors", "README.md")
    assert "the average of 2 networks" in result.readme
    done = workflow.predict(WHERE, write_scan(tmp_path / "scan.nii.gz"), tmp_path / "out")
    assert len(done.with_status("written")) == 1
    with pytest.raises(WeightsError, match="2 files of weights"):
        resvox.load_model(WHERE)
    assert resvox.load_model(f"{WHERE}/fold_1").blueprint.name == "unet"
    assert resvox.load_model(f"{WHERE}/fold_1/model.safetensors@main").blueprint.name == "unet"
    workflow.publish(run, WHERE, licence="mit")
    assert sorted(hub.files("owner/tiny")) == [".gitattributes", "README.md", "model.safetensors"]


def test_weights_are_loaded_and_the_report_names_the_commit(published, tmp_path):
    commit = published.repositories["owner/tiny"].branches["main"]
    made = resvox.create_model_from(WHERE)
    report = resvox.load_weights(made, WHERE)
    assert report.source == f"{WHERE}@{commit}"
    converted = workflow.convert(WHERE, tmp_path / "converted.safetensors", to="torch")
    assert converted.path.is_file()


def test_folders_of_this_machine_are_not_published(hub, tmp_path, make_model):
    weights = tmp_path / "secret" / "start.safetensors"
    weights.parent.mkdir()
    shutil.copy(make_model(), weights)
    model = resvox.load_model(weights)
    resvox.load_weights(model, weights)
    path = tmp_path / "model.safetensors"
    resvox.save_model(model, path, metadata=resvox.weights.read_header(weights).metadata)
    assert b"secret" in path.read_bytes()
    workflow.publish(path, WHERE, licence="mit")
    sent = hub.files("owner/tiny")["model.safetensors"]
    assert b"secret" not in sent
    assert b"start.safetensors" in sent
    assert all(map(torch.equal, model.parameters(), resvox.load_model(WHERE).parameters()))


def test_what_cannot_be_published_is_refused_before_anything_is_sent(hub, run, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((run / "model.safetensors").read_bytes()[:-8])
    for path, to, licence in (
        (broken, WHERE, "mit"),
        (run, WHERE, "my own"),
        (run, f"{WHERE}/fold_0", "mit"),
        (tmp_path, WHERE, "mit"),
    ):
        with pytest.raises(WeightsError) as caught:
            workflow.publish(path, to, licence=licence)
        one_line(caught)
    assert hub.requests == []


def test_the_command_asks_for_the_licence_and_takes_no_token(hub, run):
    without = CliRunner().invoke(app, ["publish", str(run), "--to", WHERE])
    assert without.exit_code == 2
    assert "--licence" in without.output
    shown = CliRunner().invoke(app, ["publish", "--help"], env={"COLUMNS": "200"}).output
    assert "--token" not in shown
    done = CliRunner().invoke(app, ["publish", str(run), "--to", WHERE, "--licence", "mit", "--dry-run"])
    assert done.exit_code == 0
    assert "nothing was sent" in done.output


def test_a_training_begins_from_an_address_and_its_plan_names_the_commit(published, tmp_path, write_scan):
    data = tmp_path / "data"
    for name in ("a", "b"):
        write_scan(data / "imagesTr" / f"{name}_0000.nii.gz")
        write_scan(data / "labelsTr" / f"{name}.nii.gz", (np.indices((9, 10, 11)).sum(axis=0) > 14).astype(np.uint8))
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    (data / "dataset.json").write_text(json.dumps(described))
    planned = workflow.train(data, tmp_path / "run", weights=WHERE, patch_size=(8, 8, 8), plan_only=True).plan
    commit = published.repositories["owner/tiny"].branches["main"]
    assert planned.weights == f"{WHERE}@{commit}"
    assert planned.encoder == "resnet10"


def test_a_command_finds_the_hub_by_its_environment(published, tmp_path, write_scan):
    """In a process of its own, set by HF_ENDPOINT alone."""
    environment = {
        **os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200",
        "HF_ENDPOINT": published.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    words = ["predict", WHERE, write_scan(tmp_path / "scan.nii.gz"), "-o", tmp_path / "out", "--engine", "torch"]
    command = [sys.executable, "-m", "resvox", *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "scan.nii.gz").is_file()
    for text in (done.stdout, done.stderr, (tmp_path / "out" / "predict.jsonl").read_text()):
        assert TOKEN not in text
