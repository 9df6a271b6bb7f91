"""A saved network is the network: what was changed after building is in the file, or the model is refused by name."""

import copy
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

import resvox
from resvox.blueprint import leaves as lf
from resvox.catalog import list_models
from resvox.errors import WeightsError
from resvox.torch.as_it_is import blueprint_as_is

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
SEGMENTER = {"decoder_filters": (8, 8, 4, 4, 4)}
TRANSFORMER = {"num_vit_layers": 1, "num_heads": 2, "num_queries": 3, "embed_dim": 8, "mlp_dim": 8, "image_size": 32}
KINDS = [
    ("resnet18", {}),
    ("resnet50vd", {}),
    ("seresnet18", {}),
    ("resnet18v2", {}),
    ("unet", SEGMENTER),
    ("attention_unet", {**SEGMENTER, "decoder_block_type": "transpose"}),
    ("unet_plus_plus", {**SEGMENTER, "deep_supervision": True}),
    ("trans_unet", {**SEGMENTER, **TRANSFORMER}),
]


@pytest.fixture
def thin():
    """Build a small network whose every layer shows in what comes out."""
    return _small


def _small(name="resnet18", seed=0, **options):
    torch.manual_seed(seed)
    shape = {"widths": (4, 4, 4, 4), "stem_width": 4, "depths": (1, 1, 1, 1), "num_classes": 3}
    model = resvox.create_model(name, **{**shape, **options})
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def answers(model, image):
    with torch.no_grad():
        result = model(image)
    return result if isinstance(result, list) else [result]


def check_saved(model, folder, network=None):
    """The file's model answers as the model did, or the model was refused; says which."""
    inner = network or model
    blueprint = inner.blueprint
    image = torch.randn(2, next(inner.parameters()).shape[1], *[40] * blueprint.spatial_dims)
    wanted = answers(model.eval(), image)
    path = folder / "model.safetensors"
    try:
        resvox.save_model(model, path)
    except WeightsError as error:
        return f"refused: {error}"
    for ours, theirs in zip(answers(resvox.load_model(path), image), wanted, strict=True):
        assert theirs.std() > 1e-4  # else every network would do
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    return "saved"


# --- what the file then holds -----------------------------------------------------------------------------------


def no_pooling(model, dims):
    model.maxpool = nn.Identity()


def small_stem(model, dims):
    """As for pictures of 32 by 32."""
    model.conv1 = CONV[dims](3, 4, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()


def other_pooling(model, dims):
    model.maxpool = POOL[dims](2)


def other_classes(model, dims):
    model.fc = nn.Linear(4, 7)


def other_channels(model, dims):
    model.conv1 = CONV[dims](1, 4, 7, stride=2, padding=3, bias=False)


def no_classifier(model, dims):
    model.fc = nn.Identity()


def other_activations(model, dims):
    model.act1 = nn.GELU()
    model.layer2[0].act2 = nn.LeakyReLU(0.3)


def other_numbers(model, dims):
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps, module.momentum = 1e-2, 0.01


def group_norms(model, dims):
    for parent in list(model.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, key, nn.GroupNorm(2, child.num_features))


def synchronized(model, dims):
    nn.SyncBatchNorm.convert_sync_batchnorm(model)


def dilated(model, dims):
    model.layer4[0].conv1 = CONV[dims](4, 4, 3, stride=1, padding=2, dilation=2, bias=False)
    model.layer4[0].downsample[0] = CONV[dims](4, 4, 1, bias=True)


DESCRIBED = [no_pooling, small_stem, other_pooling, other_classes, other_channels, no_classifier, other_activations,
             other_numbers, group_norms, synchronized, dilated]  # fmt: skip


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("change", DESCRIBED, ids=lambda each: each.__name__)
def test_a_change_that_a_blueprint_can_hold_is_in_the_file(change, dims, thin, tmp_path):
    model = thin(spatial_dims=dims)
    change(model, dims)
    assert check_saved(model, tmp_path) == "saved"


def test_the_file_knows_its_classes_and_channels(thin, tmp_path):
    model = thin()
    other_classes(model, 2)
    other_channels(model, 2)
    loaded = resvox.load_model(resvox.save_model(model, tmp_path / "model.safetensors"))
    assert (loaded.blueprint.num_classes, loaded.blueprint.in_channels) == (7, 1)
    assert model.blueprint.num_classes == 3  # the model itself is left as it is
    no_classifier(model, 2)
    loaded = resvox.load_model(resvox.save_model(model, tmp_path / "model.safetensors"))
    assert (loaded.blueprint.task, loaded.blueprint.num_classes) == ("features", 0)


def test_what_was_changed_in_a_segmenter_is_in_the_file(thin, tmp_path):
    model = thin("unet", spatial_dims=3, **SEGMENTER)
    model.head = nn.Conv3d(4, 5, 1)
    model.decoder.blocks[1].act1 = nn.SiLU()
    model.encoder.maxpool.kernel_size = 5
    model.encoder.maxpool.padding = 2
    assert check_saved(model, tmp_path) == "saved"
    assert resvox.load_model(tmp_path / "model.safetensors").blueprint.num_classes == 5


# --- what is refused --------------------------------------------------------------------------------------------


def foreign_activation(model):
    model.act1 = nn.Mish()


def exact_gelu(model):
    model.act1 = nn.GELU(approximate="tanh")


def hooked(model):
    model.layer1.register_forward_hook(lambda module, given, out: out * 2)


def other_forward(model):
    model.forward = functools.partial(lambda inner, x: inner.forward_features(x), model)


def circular(model):
    model.conv1 = nn.Conv2d(3, 4, 7, stride=2, padding=3, padding_mode="circular", bias=False)


def same_padding(model):
    model.layer1[0].conv1 = nn.Conv2d(4, 4, 3, padding="same", bias=False)


def dropout_before_the_classifier(model):
    model.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))


def weight_norm(model):
    nn.utils.parametrizations.weight_norm(model.fc)


def pruned(model):
    prune.l1_unstructured(model.conv1, "weight", 0.5)


def quantized(model):
    torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=True)


def gate_removed(model):
    model.layer1[0].se = nn.AdaptiveAvgPool2d(1)


def added(model):
    model.extra = nn.Linear(2, 2)


REFUSED = {
    foreign_activation: r"act1 is a torch\.nn\.modules\.activation\.Mish, not a ReLU",
    exact_gelu: r"act1\.approximate is 'tanh', not 'none'",
    hooked: r"a hook on layer1 changes what",
    other_forward: r"the model has a forward of its own",
    circular: r"conv1\.padding_mode is 'circular', not 'zeros'",
    same_padding: r"layer1\.0\.conv1\.padding is 'same'",
    dropout_before_the_classifier: r"fc is a .*Sequential, not a Linear",
    weight_norm: r"fc is a .*ParametrizedLinear.*remove_parametrizations",
    pruned: r"weight_orig",
    quantized: r"fc is a .*quantized.*before it is quantized",
    gate_removed: r"layer1\.0\.se is a .*AdaptiveAvgPool2d",
    added: r"extra was added",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda each: each.__name__)
def test_a_change_that_no_blueprint_holds_is_refused_by_name(change, thin, tmp_path):
    model = thin()
    change(model)
    with pytest.raises(WeightsError, match=f"(?s){REFUSED[change]}"):
        resvox.save_model(model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
    if change is not quantized:
        with pytest.raises(WeightsError):
            resvox.export_weights(model, tmp_path / "model.pth", peer="torchvision")


def test_a_subclass_is_saved_unless_it_computes_otherwise(thin, tmp_path):
    class Named(resvox.torch.ResNet):
        def describe(self):
            return "mine"

    class Other(resvox.torch.ResNet):
        def forward_features(self, x):
            return super().forward_features(x) * 2

    blueprint = thin().blueprint
    resvox.save_model(Named(blueprint), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"the model is a .*Other, not a ResNet"):
        resvox.save_model(Other(blueprint), tmp_path / "model.safetensors")


class Adapted(nn.Module):
    """As adapters wrap: what it does not have it takes from the network inside."""

    def __init__(self, inner):
        super().__init__()
        self.base_model = inner

    def __getattr__(self, name):
        return self.__dict__["_modules"].get(name) or getattr(self.__dict__["_modules"]["base_model"], name)

    def forward(self, x):
        return self.base_model(x) * 2


def test_a_wrapper_that_computes_otherwise_is_refused(thin, tmp_path):
    with pytest.raises(WeightsError, match=r"the model is a .*Adapted, not a ResNet"):
        resvox.save_model(Adapted(thin()), tmp_path / "model.safetensors")


def test_hooks_that_only_look_are_no_change(thin, tmp_path):
    model, seen = thin().train(), []
    model.layer1.register_forward_hook(lambda module, given, out: seen.append(out))
    model.fc.register_forward_pre_hook(lambda module, given: None)
    resvox.save_model(model, tmp_path / "model.safetensors")
    assert model.training
    assert len(model.layer1._forward_hooks) == 1


# --- laws -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_models())
def test_an_untouched_network_of_every_row_is_its_blueprint(name):
    with torch.device("meta"):
        model = resvox.create_model(name)
    assert blueprint_as_is(model) == model.blueprint


@functools.cache
def _built(index):
    name, options = KINDS[index]
    return _small(name, **options)


def _changes(leaf):
    """Changes of one layer, some of which a blueprint can hold."""
    if isinstance(leaf, lf.Norm):
        return [{"eps": 0.3}, nn.Identity(), nn.GroupNorm(1, leaf.channels), nn.InstanceNorm2d(leaf.channels)]
    if isinstance(leaf, lf.Activation):
        return [nn.GELU(), nn.Mish(), nn.Identity(), nn.Hardswish(), nn.LeakyReLU(0.5), nn.ELU(2.0)]
    if isinstance(leaf, lf.MaxPool):
        return [nn.Identity(), {"kernel_size": 1, "padding": 0}, nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1, ceil_mode=True)]
    if isinstance(leaf, lf.Upsample) and max(leaf.scale) > 1:
        return [{"mode": "bilinear"}, {"mode": "nearest-exact"}]
    if isinstance(leaf, lf.Conv):
        return [{"padding_mode": "circular", "_reversed_padding_repeated_twice": (1, 1, 1, 1)}, {"bias": None}]
    return [nn.Identity()]


def change_one(model, draw):
    """One layer anywhere is changed; the model as it is then."""
    model = copy.deepcopy(model)
    places = [(path, leaf) for path, leaf in model.blueprint.network.leaves()]
    path, leaf = draw(st.sampled_from(places))
    change = draw(st.sampled_from(_changes(leaf)))
    if isinstance(change, dict):
        for key, value in change.items():
            setattr(model.get_submodule(path), key, value)
    else:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, copy.deepcopy(change).eval())
    return model


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_layer_changed_anywhere_is_in_the_file_or_refused(data, tmp_path_factory):
    model = change_one(_built(data.draw(st.integers(0, len(KINDS) - 1))), data.draw)
    try:
        answers(model, torch.randn(1, 3, 40, 40))
    except (RuntimeError, ValueError, AttributeError, TypeError):
        return  # what does not compute is no network
    check_saved(model, tmp_path_factory.mktemp("changed"))


def test_a_file_that_forgets_a_change_is_seen(monkeypatch, thin, tmp_path):
    """The law fails where the blueprint is taken as it was."""
    import resvox.torch.tensors

    monkeypatch.setattr(resvox.torch.tensors, "blueprint_as_is", lambda model: model.blueprint)
    model = thin()
    no_pooling(model, 2)
    with pytest.raises(AssertionError):
        check_saved(model, tmp_path)


# --- wrappers and devices ---------------------------------------------------------------------------------------


def compiled(model):
    return torch.compile(model, backend="eager")


WRAPPERS = {
    "compiled": compiled,
    "averaged": AveragedModel,
    "parallel": nn.DataParallel,
    "averaged and compiled": lambda model: AveragedModel(compiled(model)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_model_saves_and_takes_weights_as_the_network_inside(wrapper, thin, tmp_path):
    model = thin("unet", spatial_dims=3, **SEGMENTER)
    assert check_saved(WRAPPERS[wrapper](model), tmp_path, network=model) == "saved"
    other = thin("unet", seed=1, spatial_dims=3, **SEGMENTER)
    wrapped = WRAPPERS[wrapper](other)
    resvox.load_weights(wrapped, model.state_dict(), peer="resvox")
    image = torch.randn(1, 3, 20, 20, 20)
    assert torch.equal(wrapped.eval()(image), model(image))


def test_a_compiled_part_is_no_change(thin, tmp_path):
    model = thin("unet", **SEGMENTER)
    whole = copy.deepcopy(model)
    model.encoder = compiled(model.encoder)
    assert any("_orig_mod" in name for name in model.state_dict())
    assert check_saved(model, tmp_path, network=whole) == "saved"
    resvox.load_weights(model, thin("unet", seed=1, **SEGMENTER).state_dict(), peer="resvox")


@pytest.mark.parametrize("name", ["resnet18", "resnet18v2", "unet", "trans_unet", "resnet18_3d"])
def test_weights_fill_a_model_on_the_meta_device(name, tmp_path):
    options = dict(KINDS).get(name, {})
    thin = {"widths": (4, 4, 4, 4), "num_classes": 3, "spatial_dims": 3, **options}
    source = resvox.create_model(name, **thin).eval()
    with torch.device("meta"):
        model = resvox.create_model(name, **thin).eval()
    with pytest.raises(WeightsError, match=r"without values \(meta device\).*load_weights"):
        resvox.save_model(model, tmp_path / "model.safetensors")
    resvox.load_weights(model, source.state_dict(), peer="resvox")
    image = torch.randn(1, 3, 20, 20, 20)
    assert torch.equal(model(image), source(image))
    with torch.device("meta"):
        loaded = resvox.load_model(resvox.save_model(source, tmp_path / "model.safetensors"))
    assert torch.equal(loaded(image), source(image))


def test_what_a_source_leaves_out_is_initialized_on_the_meta_device(thin):
    with torch.device("meta"):
        model = resvox.create_model(
            "resnet18", **{"widths": (4,) * 4, "stem_width": 4, "depths": (1,) * 4}, num_classes=9
        )
    report = resvox.load_weights(model, thin().state_dict(), peer="torchvision", classifier="drop")
    assert set(report.kept) == {"fc.weight", "fc.bias"}
    assert not any(each.is_meta for each in model.state_dict().values())
    assert 0 < model.fc.weight.abs().max() <= 0.5  # as a new one is drawn
    assert int(model.bn1.num_batches_tracked) == 0


def test_weights_for_a_changed_model_fit_its_shapes(thin):
    model = thin()
    other_classes(model, 2)
    fitting = thin(num_classes=7)
    resvox.load_weights(model, fitting.state_dict(), peer="torchvision")
    assert torch.equal(model.fc.weight, fitting.fc.weight)
    model.fc = nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 7))
    with pytest.raises(WeightsError, match=r"no place for fc\.weight, fc\.bias.*before changing"):
        resvox.load_weights(model, thin().state_dict(), peer="torchvision")
