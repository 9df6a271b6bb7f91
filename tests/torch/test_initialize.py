"""Initial values: the blueprint's, written once, where and as the surroundings say."""

import math

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import resvox
from resvox.blueprint.leaves import Conv, Linear, Norm, TransposedConv
from resvox.torch.initialize import Unfilled

NAMES = [
    ("resnet50", {}),
    ("resnet18v2", {}),
    ("unet", {"decoder_block_type": "transpose", "encoder_name": "resnet18"}),
]


def poisoned(monkeypatch):
    """Memory that is not written stays NaN."""
    empty = torch.empty

    def nan(*arguments, **options):
        made = empty(*arguments, **options)
        return made.detach().fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", nan)


@pytest.mark.parametrize(("name", "options"), NAMES)
def test_every_value_is_written(name, options, monkeypatch):
    poisoned(monkeypatch)
    model = resvox.create_model(name, spatial_dims=3, widths=(4, 4, 4, 4), stem_width=4, **options)
    for key, value in model.state_dict().items():
        assert bool(value.isfinite().all()), key


@pytest.mark.parametrize(("name", "options"), NAMES)
def test_values_are_spread_as_the_blueprint_says(name, options):
    torch.manual_seed(0)
    model = resvox.create_model(name, **options)
    for path, leaf in model.blueprint.network.leaves():
        module = model.get_submodule(path)
        if isinstance(leaf, Conv) and leaf.init == "he_fan_out":
            wanted = math.sqrt(2 / (leaf.out_channels * math.prod(leaf.kernel)))
            assert float(module.weight.detach().std()) == pytest.approx(wanted, rel=0.1)
            assert abs(float(module.weight.detach().mean())) < 0.1 * wanted
        elif isinstance(leaf, (Conv, Linear, TransposedConv)):
            fan_in = nn.init._calculate_fan_in_and_fan_out(module.weight)[0]
            assert float(module.weight.detach().abs().max()) == pytest.approx(1 / math.sqrt(fan_in), rel=0.1)
        elif isinstance(leaf, Norm):
            assert bool((module.weight == 1).all())
            assert bool((module.bias == 0).all())
            assert bool((module.running_mean == 0).all())
            assert bool((module.running_var == 1).all())
            assert int(module.num_batches_tracked) == 0


def test_zero_init_residual_writes_zeros():
    post = resvox.create_model("resnet18", zero_init_residual=True)
    assert not post.layer1[0].bn2.weight.any()
    assert post.layer1[0].bn1.weight.all()
    pre = resvox.create_model("resnet50v2", zero_init_residual=True)
    assert not pre.stages[0].blocks[0].conv3.weight.any()


def test_the_seed_decides():
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(resvox.create_model("resnet10", widths=(4, 4, 4, 4), stem_width=4))
    weights = [model.conv1.weight for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_device_and_dtype_in_force_are_taken():
    with torch.device("meta"):
        hollow = resvox.create_model("resnet50", spatial_dims=3)
        unet = resvox.create_model("unet", spatial_dims=3)
    assert all(value.is_meta for model in (hollow, unet) for value in model.state_dict().values())
    torch.set_default_dtype(torch.float64)
    try:
        model = resvox.create_model("resnet10", widths=(4, 4, 4, 4), stem_width=4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert bool(model.eval()(torch.zeros(1, 3, 8, 8, dtype=torch.float64)).isfinite().all())


class Drawings(TorchFunctionMode):
    """Counts the values drawn at random."""

    def __init__(self):
        super().__init__()
        self.values = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            self.values += args[0].numel()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "options"), NAMES)
def test_a_value_is_drawn_once(name, options):
    with Drawings() as drawn:
        model = resvox.create_model(name, **options)
    learned = model.blueprint.parameters
    norms = sum(leaf.parameters for _, leaf in model.blueprint.network.leaves() if isinstance(leaf, Norm))
    assert drawn.values == learned - norms


def test_layers_made_by_others_are_filled_as_ever():
    with Unfilled():
        torch.manual_seed(0)
        inside = nn.Linear(3, 3)
    torch.manual_seed(0)
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    assert inside.weight.shape == (3, 3)
    assert not torch.equal(first.weight, second.weight)
    first.reset_parameters()
    assert bool(first.weight.any())


def test_a_new_classifier_is_written_too():
    for name in ("resnet18", "resnet18v2"):
        model = resvox.create_model(name, widths=(4, 4, 4, 4), stem_width=4).double().eval()
        model.reset_classifier(7)
        assert model(torch.zeros(1, 3, 9, 9, dtype=torch.float64)).shape == (1, 7)
        fc = model.get_classifier()
        assert bool(fc.weight.isfinite().all())
        assert float(fc.weight.detach().abs().max()) <= 0.5
        assert model.blueprint.num_classes == 7
        assert list(model.blueprint.tensors()) == [k for k in model.state_dict() if "num_batches" not in k]
