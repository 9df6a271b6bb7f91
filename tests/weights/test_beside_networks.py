"""What training scripts save beside a network is dropped with a line in the report; the network itself is exact."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import resvox
from resvox.errors import WeightsError

SEGMENTER = {"decoder_filters": (8, 8, 4, 4, 4)}
PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "network.",
            "model.module.", "_forward_module.model._orig_mod.", "model_ema.", "ema_model.module."]  # fmt: skip
BESIDE = {
    "n_averaged": torch.tensor(3),
    "criterion.weight": torch.ones(3),
    "loss_fn.pos_weight": torch.ones(1),
    "train_loss.ce.weight": torch.ones(3),
    "metric.tp": torch.zeros(3),
    "val_metrics.dice.total": torch.zeros(1),
    "test_accuracy.correct": torch.zeros(1),
    "train_dice.sum": torch.zeros(1),
    "global_step": torch.tensor(7),
    "epoch": 3,
}


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("name", "options"), [("resnet18", {}), ("resnet18v2", {"spatial_dims": 3}), ("unet", SEGMENTER)]
)
def test_prefixes_and_what_stands_beside_them(name, options, prefix, beside, thin):
    source, model = thin(name, **options), thin(name, seed=1, **options)
    state = {prefix + key: value for key, value in source.state_dict().items()}
    report = resvox.load_weights(model, {**state, **(BESIDE if beside else {})}, peer="resvox")
    for key, value in model.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, source.state_dict()[key]), key
    dropped = {key: reason for key, reason in report.dropped.items() if "step counter" not in reason}
    assert set(dropped) == (set(BESIDE) if beside else set())
    if beside:
        lines = str(report)
        for line in ("a counter of the training", "a weight of the loss", "the state of a metric"):
            assert f"({line})" in lines


@pytest.mark.parametrize(
    "container", ["model_ema", "state_dict", "model", "ema_state_dict", "ema", "network", "params"]
)
def test_containers(container, thin, tmp_path):
    source, model = thin(), thin(seed=1)
    averaged = AveragedModel(source)
    saved = {container: averaged.state_dict(), "epoch": 3, "lr": 0.1, "mean": torch.zeros(3), "args": {"a": 1}}
    torch.save(saved, tmp_path / "file.pth")
    report = resvox.load_weights(model, tmp_path / "file.pth", peer="torchvision")
    assert torch.equal(model.fc.weight, source.fc.weight)
    assert report.wrappers[0] == container
    assert report.dropped["n_averaged"] == "a counter of the training"


def test_of_two_networks_in_a_file_the_report_says_which_was_taken(thin, tmp_path):
    source, averaged, model = thin(), thin(seed=2), thin(seed=1)
    torch.save({"model_ema": averaged.state_dict(), "model": source.state_dict()}, tmp_path / "file.pth")
    report = resvox.load_weights(model, tmp_path / "file.pth", peer="torchvision")
    assert torch.equal(model.fc.weight, source.fc.weight)
    assert report.dropped["model_ema"] == "another part of the checkpoint than 'model'"
    state = {f"model.{key}": value for key, value in source.state_dict().items()}
    state |= {f"model_ema.module.{key}": value for key, value in averaged.state_dict().items()}
    report = resvox.load_weights(model, state, peer="torchvision")
    assert torch.equal(model.fc.weight, source.fc.weight)
    assert report.dropped["model_ema.module.fc.weight"] == "another copy of the network"


def test_names_with_wrappers_inside(thin):
    source, model = thin("unet", **SEGMENTER), thin("unet", seed=1, **SEGMENTER)
    state = {key.replace("encoder.layer1.", "encoder.layer1._orig_mod."): v for key, v in source.state_dict().items()}
    state = {key.replace("layer2.0.", "layer2.0._checkpoint_wrapped_module."): value for key, value in state.items()}
    assert state.keys() != source.state_dict().keys()
    resvox.load_weights(model, state, peer="resvox")
    assert torch.equal(model.encoder.layer2[0].conv1.weight, source.encoder.layer2[0].conv1.weight)


@pytest.mark.parametrize(
    "extra", ["head2.weight", "layer1.0.metric.weight", "bn9.running_mean", "encoder2.conv1.weight"]
)
def test_what_may_belong_to_the_network_is_not_dropped(extra, thin):
    """The failing twin: only names that are known to stand beside a network are."""
    state = {**thin().state_dict(), extra: torch.ones(3)}
    with pytest.raises(WeightsError, match=r"unknown: " + extra.replace(".", r"\.")):
        resvox.load_weights(thin(), state, peer="resvox")


def test_a_network_is_made_from_them(thin):
    source = thin()
    made = resvox.create_model_from(
        {**{f"module.{key}": value for key, value in source.state_dict().items()}, **BESIDE}, peer="torchvision"
    )
    assert torch.equal(made.fc.weight, source.fc.weight)
