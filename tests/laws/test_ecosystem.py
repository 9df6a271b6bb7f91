"""What PyTorch's own tools do with a module works for every row: hooks, torch.fx, 16-bit numbers, checkpointing."""

import copy

import pytest
import torch
import torch.fx
from laws.networks import DIMS, RESIDUAL_ROWS, ROWS, SEGMENTATION, ids, outputs, thin
from torch import nn

from resvox.catalog import get_blueprint
from resvox.torch import build

OPTIONS = [
    ("resnet18", {"shortcut": "zero_pad"}),
    ("resnet50v2", {"shortcut": "zero_pad", "norm": "group"}),
    ("seresnet50", {"drop_path": 0.2, "activation": "silu"}),
    ("resnet18vd", {"activation": ("leaky_relu", {"negative_slope": 0.1}), "output_stride": 8}),
    ("resnet18", {"activation": "elu", "norm": "instance", "pool_padding": "zeros"}),
    ("resnet50v2", {"features_only": True, "num_classes": None}),
    ("resnet18", {"output_activation": "softmax"}),
]
CASES = [(name, dims, {}) for name, dims in ROWS]
CASES += [(name, dims, options) for name, options in [*SEGMENTATION, *OPTIONS] for dims in DIMS]
cases = pytest.mark.parametrize(("name", "dims", "options"), CASES, ids=ids)
# A thin network of each kind; the rest of the catalog runs the same laws in `make laws`.
KINDS = ("resnet18", "resnet50v2", "seresnext50", "resnet50vd", "unet", "unet_plus_plus", "attention_unet",
         "trans_unet", "resenc_unet", "plain_unet", "segresnet", "monai_unet", "resnet18_3d")  # fmt: skip
FEW = [(name, dims, {}) for name in KINDS for dims in DIMS]
FEW += [(name, 2 + number % 2, options) for number, (name, options) in enumerate(OPTIONS)]
few = pytest.mark.parametrize(("name", "dims", "options"), FEW, ids=ids)
rest = pytest.mark.parametrize(("name", "dims", "options"), [case for case in CASES if case not in FEW], ids=ids)


def image(dims, side=None, batch=2):
    side = side or {2: 37, 3: 19}[dims]
    return torch.randn(batch, 3, *[side] * dims)


def total(result):
    return sum(each.float().square().mean() for each in outputs(result))


def check_hooks(model, x):
    """A full backward hook on every module: each that computes in the forward pass is called in the backward pass."""
    called, seen = set(), set()
    for name, module in model.named_modules():
        # PyTorch calls these hooks only where a tensor comes out
        module.register_forward_hook(
            lambda module, given, out, name=name: called.add(name) if isinstance(out, torch.Tensor) else None
        )
        module.register_full_backward_hook(lambda module, given, out, name=name: seen.add(name))
    total(model(x)).backward()
    assert [name for name in called - seen if not name.endswith("queries.embedding")] == []  # a sum takes its place
    assert len(seen) > 5


@pytest.mark.filterwarnings("ignore:.*backward hook")
@few
def test_full_backward_hooks(name, dims, options):
    check_hooks(thin(name, dims, **options).train(), image(dims))


@pytest.mark.laws
@rest
def test_full_backward_hooks_of_every_row(name, dims, options):
    check_hooks(thin(name, dims, **options).train(), image(dims))


def test_an_activation_in_place_is_seen():
    model = thin("resnet18", 2)
    model.layer1[0].act1.inplace = True
    with pytest.raises(RuntimeError, match="inplace"):
        check_hooks(model.train(), image(2))


def check_fx(model, x):
    """The graph of torch.fx answers as the module does, in training and in evaluation."""
    for mode in (True, False):
        model.train(mode)
        if mode and any(type(each).__name__ in ("DropPath", "Dropout") for each in model.modules()):
            torch.fx.symbolic_trace(model)(x)  # it draws at random
            continue
        eager = copy.deepcopy(model)
        graph = torch.fx.symbolic_trace(model)
        for ours, theirs in zip(outputs(graph(x)), outputs(eager(x)), strict=True):
            assert torch.equal(ours, theirs)


@few
def test_torch_fx(name, dims, options):
    check_fx(thin(name, dims, **options), image(dims))


@pytest.mark.laws
@rest
def test_torch_fx_of_every_row(name, dims, options):
    check_fx(thin(name, dims, **options), image(dims))


class Shaped(nn.Module):
    """Asks for a size while it computes."""

    def forward(self, x):
        return x if min(x.shape[2:]) > 1 else x + 1


def test_a_size_that_decides_is_seen():
    model = thin("resnet18", 2)
    model.act1 = Shaped()
    with pytest.raises((TypeError, torch.fx.proxy.TraceError)):
        check_fx(model, image(2))


QUANTIZED = [("resnet18", 2), ("resnet50vd", 3), ("unet", 3)]
REST = [(name, dims) for name in KINDS for dims in DIMS if (name, dims) not in QUANTIZED]


@pytest.mark.parametrize(
    ("name", "dims"), [*QUANTIZED, *(pytest.param(*each, marks=pytest.mark.laws) for each in REST)]
)
def test_quantization_by_torch_fx(name, dims):
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    x = image(dims)
    wanted = thin(name, dims)(x)
    prepared = prepare_fx(thin(name, dims), get_default_qconfig_mapping("qnnpack"), (x,))
    prepared(x)
    found = convert_fx(prepared)(x)
    assert found.shape == wanted.shape
    assert bool(found.isfinite().all())


HALVES = [torch.bfloat16, torch.float16]


def check_halves(model, x, dtype):
    """With 16-bit numbers, outputs have 16 bits and are near those with 32."""
    wanted = outputs(model(x))
    for found, each in zip(outputs(copy.deepcopy(model).to(dtype)(x.to(dtype))), wanted, strict=True):
        assert found.dtype == dtype
        assert bool(found.isfinite().all())
        assert (found.float() - each).abs().max() < 0.25 * each.abs().max()  # bfloat16 keeps 8 bits per step


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@few
def test_16_bits(name, dims, options, dtype):
    check_halves(thin(name, dims, **options), image(dims), dtype)


@pytest.mark.laws
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@rest
def test_16_bits_of_every_row(name, dims, options, dtype):
    check_halves(thin(name, dims, **options), image(dims), dtype)


@few
def test_a_step_in_16_bits(name, dims, options):
    model = thin(name, dims, **options).to(torch.bfloat16).train()
    total(model(image(dims).bfloat16())).backward()
    # not their values: some processors compute them wrongly (resvox/training/bfloat16.py)
    assert all(each.grad is not None for each in model.parameters())


class Wide(nn.Module):
    """Answers in 32 bits, whatever goes in."""

    def forward(self, x):
        return x.float()


def test_an_answer_in_32_bits_is_seen():
    model = thin("resnet18", 3)
    model.fc = nn.Sequential(model.fc, Wide())
    with pytest.raises(AssertionError):
        check_halves(model, image(3), torch.bfloat16)


def check_checkpointing(model, x):
    """Checkpointing changes neither gradients nor running statistics, and counts a step once."""
    model.train()
    saving = copy.deepcopy(model)
    saving.set_grad_checkpointing(True)
    for each in (model, saving):
        torch.manual_seed(1)
        total(each(x)).backward()
    for (name, ours), theirs in zip(model.named_parameters(), saving.parameters(), strict=True):
        if ours.requires_grad:
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6), name
    for name, value in saving.named_buffers():
        assert torch.equal(value, model.get_buffer(name)), name


@few
def test_checkpointing(name, dims, options):
    check_checkpointing(thin(name, dims, **options), image(dims))


@pytest.mark.laws
@rest
def test_checkpointing_of_every_row(name, dims, options):
    check_checkpointing(thin(name, dims, **options), image(dims))


@pytest.mark.laws
@pytest.mark.parametrize(("name", "dims"), RESIDUAL_ROWS)
def test_the_laws_at_full_size(name, dims):
    torch.manual_seed(0)
    blueprint = get_blueprint(name, spatial_dims=dims, num_classes=7)
    x = image(dims, side=40)
    check_fx(build(blueprint), x)
    check_hooks(build(blueprint), x)
    check_halves(build(blueprint).eval(), x, torch.bfloat16)


def test_statistics_that_are_written_twice_are_seen():
    model = thin("resnet18", 2)

    class Twice(nn.BatchNorm2d):
        def forward(self, x):
            super().forward(x)
            return super().forward(x)

    class Saving(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

        def set_grad_checkpointing(self, enable):
            norm = self.inner.bn1
            norm.__class__ = Twice

    with pytest.raises(AssertionError):
        check_checkpointing(Saving(model), image(2))


def test_checkpointing_leaves_frozen_and_foreign_norms_as_they_are():
    model = thin("resnet18", 2)
    model.layer1[0].bn1 = nn.InstanceNorm2d(8, track_running_stats=True)
    model.layer2[0].bn1.eval().requires_grad_(False)
    check_checkpointing(model, image(2))


def test_a_traced_graph_has_no_checkpoints():
    model = thin("resnet18", 2)
    model.set_grad_checkpointing(True)
    assert torch.equal(torch.fx.symbolic_trace(model)(image(2) * 0), model(image(2) * 0))
