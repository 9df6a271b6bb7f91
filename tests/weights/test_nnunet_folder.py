"""Model folders of nnU-Net: what they state, and what is refused."""

import json
import os
import zipfile

import numpy as np
import pytest
import torch
from weights.nnunet_toys import (
    DATASET,
    architecture,
    checkpoint,
    configuration,
    old_configuration,
    plans,
    write_folder,
)

from resvox.errors import WeightsError
from resvox.weights.nnunet import NnunetDataset, NnunetFolder, NnunetPlans, is_nnunet, open_nnunet, read_checkpoint
from resvox.weights.nnunet.fields import JsonFields


def plans_of(**configurations):
    return NnunetPlans.of(JsonFields(plans(**configurations), path="plans.json"))


def refused(make, *words):
    with pytest.raises(WeightsError) as caught:
        make()
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


# --- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_and_what_it_states(tmp_path):
    folder = NnunetFolder.read(write_folder(tmp_path, folds=(0, 10, 2, "all")))
    assert folder.configuration_name == "3d_fullres"
    assert list(folder.checkpoints) == ["0", "2", "10"]  # fold_all only by name
    assert list(NnunetFolder.read(folder.path, folds=("all", 2)).checkpoints) == ["all", "2"]
    found = folder.configuration
    assert (found.patch_size, found.spacing_mm, found.spatial_dims) == ((8, 8, 8), (2.5, 1.0, 1.0), 3)
    assert found.resampling_data.arguments["order"] == 3
    assert folder.plans.intensities[0].percentile_99_5 == 8.0
    assert (folder.in_channels, folder.dataset.output_channels, folder.postprocessing) == (1, 3, None)
    read = folder.read_fold("0")
    assert (read.trainer, read.configuration, read.fold, read.epoch) == ("nnUNetTrainer", "3d_fullres", "0", 7)
    assert read.mirror_axes == (0, 1, 2)
    assert list(read.weights) == ["a.weight"]


def test_the_folder_of_a_dataset_with_one_model(tmp_path):
    folder = write_folder(tmp_path)
    assert NnunetFolder.read(folder.parent).path == folder
    assert NnunetFolder.read(tmp_path).path == folder
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / "plans.json").write_text("{}")
    refused(lambda: NnunetFolder.read(folder.parent), "2 models", "other", "give the folder of one of them")


def test_a_renamed_folder_takes_the_configuration_from_the_checkpoint(tmp_path):
    folder = write_folder(tmp_path).rename(tmp_path / "heart")
    assert NnunetFolder.read(folder).configuration_name == "3d_fullres"


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ((1,), ("no checkpoint_final.pth of fold 1", "fold_0")),
        (("all", 0), ("no checkpoint_final.pth of fold all",)),
    ],
)
def test_a_missing_fold(tmp_path, folds, words):
    folder = write_folder(tmp_path)
    refused(lambda: NnunetFolder.read(folder, folds=folds), *words)


def test_fold_all_is_used_by_name_alone(tmp_path):
    folder = write_folder(tmp_path, folds=("all",))
    refused(lambda: NnunetFolder.read(folder), "no numbered fold", "folds=('all',)")


def test_a_checkpoint_of_another_configuration(tmp_path):
    folder = write_folder(tmp_path)
    torch.save(checkpoint({"a": torch.ones(1)}, name="2d"), folder / "fold_0" / "checkpoint_final.pth")
    refused(lambda: NnunetFolder.read(folder).read_fold("0"), "configuration '2d'", "expected '3d_fullres'")


@pytest.mark.parametrize("name", ["plans.pkl", "model_final_checkpoint.model"])
def test_the_first_version_is_refused_by_that_word(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    refused(lambda: NnunetFolder.read(tmp_path), "nnU-Net v1", name)
    refused(lambda: read_checkpoint(tmp_path / name), "nnU-Net v1")


def test_what_is_no_model_folder(tmp_path):
    refused(lambda: NnunetFolder.read(tmp_path), "without plans.json")
    refused(lambda: NnunetFolder.read(tmp_path / "nowhere"), "no such folder")
    assert not is_nnunet(tmp_path)
    assert not is_nnunet(tmp_path / "nowhere")
    assert is_nnunet(write_folder(tmp_path))
    assert is_nnunet(tmp_path / "Dataset001_Toy")


# --- checkpoints ---------------------------------------------------------------------------------------------------


class _Calls:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize("where", ["logging", "optimizer_state", "unused", "init_args"])
def test_a_forged_checkpoint_is_refused_before_it_runs(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    forged = {"deep": [{"deeper": (1, _Calls(os.system, "touch HACKED"))}]}
    torch.save(checkpoint({"a": torch.ones(1)}, **{where: forged}), tmp_path / "checkpoint_final.pth")
    refused(lambda: read_checkpoint(tmp_path / "checkpoint_final.pth"), "a pickle that calls posix.system")
    assert not (tmp_path / "HACKED").exists()


def test_mirror_axes_come_from_the_checkpoint(tmp_path):
    for axes, wanted in (((0, 1), (0, 1)), (None, ()), ([2], (2,)), (1, (1,))):
        torch.save(
            checkpoint({"a": torch.ones(1)}, inference_allowed_mirroring_axes=axes, trainer="nnUNetTrainerNoMirroring"),
            tmp_path / "c.pth",
        )
        assert read_checkpoint(tmp_path / "c.pth").mirror_axes == wanted
    content = checkpoint({"a": torch.ones(1)})
    del content["inference_allowed_mirroring_axes"]
    torch.save(content, tmp_path / "c.pth")
    assert read_checkpoint(tmp_path / "c.pth").mirror_axes == ()
    torch.save(checkpoint({"a": torch.ones(1)}, inference_allowed_mirroring_axes=(0, 5)), tmp_path / "c.pth")
    refused(lambda: read_checkpoint(tmp_path / "c.pth"), "inference_allowed_mirroring_axes", "(0, 5)")


def test_numpy_numbers_and_devices_in_a_checkpoint_are_harmless(tmp_path):
    content = checkpoint({"a": torch.ones(1)})
    content["init_args"]["fold"] = "all"
    content["init_args"]["extra"] = {"best": np.float64(1), "deep": [("x", None, 1.5, True)]}
    torch.save(content, tmp_path / "c.pth")
    read = read_checkpoint(tmp_path / "c.pth")
    assert read.fold == "all"
    np.testing.assert_array_equal(read.weights["a"], [1])


def test_a_file_of_something_else(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "c.pth")
    refused(lambda: read_checkpoint(tmp_path / "c.pth"), "network_weights")
    torch.save({**checkpoint({"a": torch.ones(1)}), "init_args": {}}, tmp_path / "c.pth")
    refused(lambda: read_checkpoint(tmp_path / "c.pth"), "init_args.configuration")
    circle = checkpoint({"a": torch.ones(1)})
    circle["init_args"]["self"] = circle["init_args"]
    torch.save(circle, tmp_path / "c.pth")
    refused(lambda: read_checkpoint(tmp_path / "c.pth"), "plain values in values without end")


# --- plans ---------------------------------------------------------------------------------------------------------


def test_old_plans_and_new_ones_state_the_same_network():
    new = configuration(architecture=architecture(features_per_stage=[4, 8, 16]))
    both = plans_of(new=new, old=old_configuration())
    assert both.configuration("old").network == both.configuration("new").network


def test_a_moved_class_is_known_by_its_last_name():
    moved = architecture()
    moved["network_class_name"] = "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"
    found = plans_of(a=configuration(architecture=moved)).configuration("a").network
    assert (found.kind, found.model) == ("ResidualEncoderUNet", "resenc_unet")


def test_inheritance_is_shallow_and_recursive():
    found = plans_of(
        a=configuration(), b={"inherits_from": "a", "batch_size": 5}, c={"inherits_from": "b", "patch_size": [16, 8, 8]}
    ).configuration("c")
    assert (found.name, found.batch_size, found.patch_size) == ("c", 5, (16, 8, 8))


def test_a_circle_of_inheritance_is_refused():
    every = plans_of(a={"inherits_from": "b"}, b={"inherits_from": "a"})
    refused(lambda: every.configuration("a"), "no circle: a inherits from b inherits from a")
    refused(lambda: plans_of().configuration("3d_fulres"), "'3d_fulres'", "did you mean 3d_fullres?")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"norm_op": "os.system"}, ("norm_op is 'os.system'", "InstanceNorm3d")),
        ({"nonlin": "torch.nn.GELU"}, ("nonlin is 'torch.nn.GELU'",)),
        ({"dropout_op": "torch.nn.Dropout3d"}, ("dropout_op",)),
        ({"conv_op": "torch.nn.modules.conv.Conv2d"}, ("conv_op", "Conv3d")),
        ({"n_stages": 4}, ("features_per_stage", "4 numbers")),
        ({"strides": [[1, 1, 1], [2, 2, 2]]}, ("strides", "3 entries for 3 stages")),
        ({"kernel_sizes": [[2, 3, 3]] * 3}, ("kernel_sizes", "odd")),
        ({"block": "my.own.Block"}, ("block is 'my.own.Block'",)),
        ({"squeeze_excitation": True}, ("squeeze_excitation",)),
    ],
)
def test_what_an_architecture_may_not_hold(changed, words):
    found = plans_of(a=configuration(architecture=architecture(**changed)))
    refused(lambda: found.configuration("a"), "plans.json: configurations.a.architecture.arch_kwargs", *words)


def test_other_networks_and_preprocessors_are_refused_by_name():
    other = architecture()
    other["network_class_name"] = "dynamic_network_architectures.architectures.primus.Primus"
    found = plans_of(a=configuration(architecture=other), b=configuration(preprocessor_name="Mine"))
    refused(lambda: found.configuration("a"), "Primus", "ResidualEncoderUNet")
    refused(lambda: found.configuration("b"), "preprocessor_name is 'Mine'")


# --- datasets ------------------------------------------------------------------------------------------------------


def dataset_of(**changed):
    return NnunetDataset.of(JsonFields({**DATASET, **changed}, path="dataset.json"))


def test_regions_labels_and_the_ignored_label():
    plain = dataset_of(labels={"background": 0, "a": 1, "b": 2, "ignore": 3})
    assert (plain.ignore, plain.output_channels, plain.foreground_labels, plain.regions) == (3, 3, (1, 2), {})
    regions = dataset_of(labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "x": 3},
                         regions_class_order=[1, 2, 3])  # fmt: skip
    assert list(regions.regions.values()) == [(1, 2, 3), (2, 3), (3,)]
    assert (regions.output_channels, regions.regions_class_order, regions.all_labels) == (3, (1, 2, 3), (0, 1, 2, 3))
    refused(lambda: dataset_of(labels={"background": 0, "a": [1, 2]}), "regions_class_order is missing")
    refused(lambda: dataset_of(labels={"background": 0, "a": [1, 2]}, regions_class_order=[1, 2]), "1 values")
    refused(lambda: dataset_of(labels={"background": 1, "a": 0}), "0 for background")
    refused(lambda: dataset_of(labels={"0": "background"}), "labels")
    refused(lambda: dataset_of(channel_names={"1": "CT"}), "channel_names")
    old = {name: value for name, value in DATASET.items() if name != "channel_names"}
    assert NnunetDataset.of(JsonFields({**old, "modality": {"0": "MR"}}, path=None)).channel_names == ("MR",)


def test_files_that_are_not_json(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "plans.json").write_text("{")
    refused(lambda: NnunetFolder.read(folder), "plans.json: not JSON")
    (folder / "plans.json").write_text("[]")
    refused(lambda: NnunetFolder.read(folder), "a JSON list")
    (folder / "plans.json").write_text(json.dumps({**plans(), "transpose_backward": [1, 2, 0]}))
    refused(lambda: NnunetFolder.read(folder), "transpose_backward", "inverse")
    huge = json.dumps(plans()).replace('"mean": 3.0', '"mean": 1' + "0" * 400)
    (folder / "plans.json").write_text(huge)
    refused(lambda: NnunetFolder.read(folder), "per_channel.0.mean", "a finite number")


# --- zips ----------------------------------------------------------------------------------------------------------


def zipped(folder, target, extra=()):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
        for name, content in extra:
            archive.writestr(name, content)
    return target


def test_a_zip_is_read_as_its_folder(tmp_path):
    write_folder(tmp_path / "in", folds=(0, 1))
    path = zipped(tmp_path / "in", tmp_path / "model.zip", [("Dataset001_Toy/progress.png", b"x")])
    assert is_nnunet(path)
    with open_nnunet(path) as folder:
        inside = folder.path
        assert list(folder.checkpoints) == ["0", "1"]
        assert folder.read_fold("1").trainer == "nnUNetTrainer"
        assert not list(inside.parent.rglob("*.png"))
    assert not inside.exists()
    with open_nnunet(tmp_path / "in") as folder:
        assert list(folder.checkpoints) == ["0", "1"]


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "..\\out.txt", "C:/out.txt"])
def test_a_zip_that_would_leave_its_folder_is_refused(tmp_path, name):
    write_folder(tmp_path / "in")
    path = zipped(tmp_path / "in", tmp_path / "model.zip", [(name, b"x")])

    def read():
        with open_nnunet(path):
            pass

    refused(read, "a zip with the member", "names below its own folder")
    assert not list(tmp_path.rglob("out.txt"))


def test_a_zip_bomb_is_refused(tmp_path):
    write_folder(tmp_path / "in")
    bomb = [("Dataset001_Toy/fold_3/checkpoint_final.pth", b"\0" * (80 * 2**20))]
    path = zipped(tmp_path / "in", tmp_path / "model.zip", bomb)

    def read():
        with open_nnunet(path):
            pass

    refused(read, "a zip bomb")
