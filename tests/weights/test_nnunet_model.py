"""The networks of nnU-Net's model folders: as the plans describe them and with a fold's weights, or refused by name."""

import pytest
import torch
from weights.nnunet_toys import DATASET, architecture, checkpoint, configuration, old_configuration, plans, write_folder

import resvox
from resvox.blueprint.leaves import Activation, Norm
from resvox.errors import WeightsError
from resvox.weights.nnunet import NnunetFolder, load_fold, nnunet_blueprint


def exported(tmp_path, folder, **options):
    """A random network of a folder's plans, and its state dict under nnU-Net's names."""
    torch.manual_seed(0)
    blueprint = nnunet_blueprint(NnunetFolder.read(folder), deep_supervision=True)
    model = resvox.torch.build(blueprint).eval()
    for each in model.parameters():
        each.data = torch.randn_like(each) * 0.3
    written = resvox.export_weights(model, tmp_path / "weights.pth", peer="nnunet")
    return model, torch.load(written, weights_only=True)


def with_weights(folder, state, **changed):
    torch.save(checkpoint(state, **changed), folder / "fold_0" / "checkpoint_final.pth")
    return NnunetFolder.read(folder)


def answer(model, blueprint, seed=1):
    size = (8, 12, 16)[-blueprint.spatial_dims :]
    x = torch.randn(1, blueprint.in_channels, *size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize(
    "found",
    [
        plans(),
        plans(**{"3d_fullres": configuration(architecture=architecture(kind="PlainConvUNet"))}),
        plans(**{"3d_fullres": configuration(architecture=architecture(kind="ResidualUNet"))}),
        plans(**{"3d_fullres": configuration(2, architecture=architecture(2, block="a.b.BottleneckD",
                                                                          bottleneck_channels=2, stem_channels=5))}),
        plans(**{"3d_fullres": old_configuration()}),
    ],
    ids=["resenc", "plain", "residual", "bottleneck", "old"],
)  # fmt: skip
def test_the_network_of_a_folder(tmp_path, found):
    folder = write_folder(tmp_path, found=found)
    model, state = exported(tmp_path, folder)
    loaded = load_fold(with_weights(folder, state), "0")
    assert not loaded.training
    assert torch.equal(answer(loaded, loaded.blueprint), answer(model, model.blueprint))
    assert resvox.weights.origin_of(loaded)["peer"] == "nnU-Net v2"
    exact = load_fold(NnunetFolder.read(folder), "0", exact=True)
    torch.testing.assert_close(answer(exact, exact.blueprint), answer(model, model.blueprint), rtol=1e-4, atol=1e-5)
    supervised = load_fold(NnunetFolder.read(folder), "0", deep_supervision=True)
    assert all(torch.equal(value, supervised.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_fold_saved_as_a_model_file_computes_the_same(tmp_path):
    folder = write_folder(tmp_path)
    _, state = exported(tmp_path, folder)
    loaded = load_fold(with_weights(folder, state), "0")
    again = resvox.load_model(resvox.save_model(loaded, tmp_path / "model.safetensors"))
    assert torch.equal(answer(again, again.blueprint), answer(loaded, loaded.blueprint))


def test_channels_and_classes_come_from_the_dataset(tmp_path):
    dataset = {**DATASET, "channel_names": {"0": "T1", "1": "T2"}, "regions_class_order": [1, 2],
               "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}}  # fmt: skip
    two = configuration(normalization_schemes=["ZScoreNormalization"] * 2, use_mask_for_norm=[True] * 2)
    folder = NnunetFolder.read(write_folder(tmp_path, found=plans(**{"3d_fullres": two}), dataset=dataset))
    blueprint = nnunet_blueprint(folder)
    assert (blueprint.in_channels, blueprint.num_classes) == (2, 2)
    second = NnunetFolder.read(
        write_folder(tmp_path / "cascade", found=plans(**{"3d_fullres": {**two, "previous_stage": "3d_lowres"}}),
                     dataset=dataset)
    )  # fmt: skip
    assert nnunet_blueprint(second).in_channels == 4  # one more per foreground label


def test_what_plans_state_of_norm_and_activation(tmp_path):
    model, state = exported(tmp_path, write_folder(tmp_path / "default"))
    arguments = {"norm_op_kwargs": {"eps": 1e-3, "affine": True}, "nonlin": "torch.nn.ReLU", "nonlin_kwargs": None}
    found = plans(**{"3d_fullres": configuration(architecture=architecture(**arguments))})
    folder = write_folder(tmp_path / "other", found=found)
    loaded = load_fold(with_weights(folder, state), "0")
    leaves = [leaf for _, leaf in loaded.blueprint.network.leaves()]
    assert {leaf.eps for leaf in leaves if isinstance(leaf, Norm)} == {1e-3}
    assert {leaf.kind for leaf in leaves if isinstance(leaf, Activation)} == {"relu"}
    weights = model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    assert not torch.allclose(answer(loaded, loaded.blueprint), answer(model, model.blueprint))


def test_a_trainer_with_batch_norm(tmp_path):
    batch = plans(**{"3d_fullres": configuration(
        architecture=architecture(norm_op="torch.nn.modules.batchnorm.BatchNorm3d"))})  # fmt: skip
    model, state = exported(tmp_path, write_folder(tmp_path / "batch", found=batch))
    folder = write_folder(tmp_path)  # its plans say instance norm
    loaded = load_fold(with_weights(folder, state, trainer="nnUNetTrainerBN"), "0")
    assert torch.equal(answer(loaded, loaded.blueprint), answer(model, model.blueprint))


def test_a_trainer_with_another_network_is_refused_by_name(tmp_path):
    folder = write_folder(tmp_path)
    _, state = exported(tmp_path, folder)
    state["encoder.stages.0.blocks.0.attention.weight"] = torch.ones(3)
    with pytest.raises(WeightsError) as caught:
        load_fold(with_weights(folder, state, trainer="nnUNetTrainerMine"), "0")
    text = str(caught.value)
    assert "checkpoint_final.pth: trainer 'nnUNetTrainerMine': nnU-Net v2 weights that do not fit; unknown" in text
    assert "encoder.stages.0.blocks.0.attention.weight" in text
    assert "\n" not in text
    narrower = plans(**{"3d_fullres": configuration(architecture=architecture(features_per_stage=[4, 4, 8]))})
    other = write_folder(tmp_path / "other", found=narrower)
    with pytest.raises(WeightsError, match=r"trainer 'nnUNetTrainer': .*misshapen"):
        load_fold(with_weights(other, exported(tmp_path, folder)[1]), "0")


def test_two_names_of_one_tensor_that_disagree(tmp_path):
    folder = write_folder(tmp_path)
    _, state = exported(tmp_path, folder)
    state["decoder.encoder.stem.convs.0.conv.bias"] = state["encoder.stem.convs.0.conv.bias"] + 1
    with pytest.raises(WeightsError, match=r"checkpoint_final\.pth: .*two names of one tensor with different values"):
        load_fold(with_weights(folder, state), "0")


def test_a_checkpoint_alone_names_its_network(tmp_path):
    folder = write_folder(tmp_path)
    model, state = exported(tmp_path, folder)
    with_weights(folder, state)
    alone = resvox.create_model_from(folder / "fold_0" / "checkpoint_final.pth")
    assert torch.equal(answer(alone, alone.blueprint), answer(model, model.blueprint))
