"""medicai's defaults, spellings and refusals; the names of resnet3d."""

import json

import pytest

DEFAULTS = """
import json, numpy as np, keras
import medicai.models as mm
from resvox.blueprint import leaves, blocks

def nodes(node):
    yield node
    for _, child in node.children():
        yield from nodes(child)

def every(model, kind):
    return [node for node in nodes(model.blueprint.network) if isinstance(node, kind)]

found = {}
model = mm.ResNet18(input_shape=(9, 8, 1), num_classes=3)
found["classifier"] = np.asarray(model.predict(np.ones((2, 9, 8, 1)), verbose=0)).sum(1).tolist()
found["name"] = model.name
unet = mm.UNet(encoder_name="resnet50_v2", input_shape=(None, None, None, 2), encoder_depth=3)
found["segmenter"] = [unet.blueprint.network.activation.kind, unet.name, list(unet.output.shape)]
decoder = [n for b in unet.blueprint.network.decoder.blocks.items for n in (b.bn1, b.bn2)]
found["decoder"] = sorted({(n.kind, n.eps, n.momentum) for n in decoder})
found["keras"] = [unet.get_layer("decoder_blocks_0_bn1").epsilon, unet.get_layer("decoder_blocks_0_bn1").momentum]
found["encoder"] = sorted({(n.eps, n.momentum) for n in every(mm.ResNet18(input_shape=(8, 8, 1)), leaves.Norm)})
plain = mm.UNet(encoder_name="resnet18", input_shape=(8, 8, 1), decoder_normalization=False, encoder_depth=3)
found["no norm"] = [b.bn1 is None and b.conv1.bias for b in plain.blueprint.network.decoder.blocks.items]
gated = {
    "SEResNet18": mm.SEResNet18(input_shape=(8, 8, 1), num_classes=2),
    "SEResNeXt50": mm.SEResNeXt50(input_shape=(8, 8, 1), num_classes=2),
    "UNet": mm.UNet(encoder_name="seresnet18", input_shape=(8, 8, 1)),
    "ResNetBackbone": mm.ResNetBackbone(
        input_shape=(8, 8, 1), num_blocks=[1, 1, 1, 1], block_type="basic_block", se_block=True
    ),
}
found["gates"] = {
    name: [
        {n.se_before_norm for n in every(model, (blocks.BasicBlock, blocks.BottleneckBlock))} == {True},
        {n.fc1.in_channels // n.fc1.out_channels for n in every(model, blocks.SqueezeExcitation)} == {16},
    ]
    for name, model in gated.items()
}
found["spellings"] = [
    mm.create_model(name, input_shape=(8, 8, 1), num_classes=2).blueprint.name
    for name in ("resnet50v2", "resnet50_v2", "ResNet18", "resnext50_32x4d")
]
found["unet by name"] = type(mm.create_model("UNet", encoder_name="resnet10", input_shape=(8, 8, 1))).__name__
trans = mm.TransUNet(encoder_name="resnet10", input_shape=(8, 8, 1), num_vit_layers=1, embed_dim=16, mlp_dim=8)
found["trans_unet"] = [trans.blueprint.network.decoder.act.slope, trans.blueprint.network.activation, trans.name]
found["families"] = [sorted(mm.list_models(family="SENet")), len(mm.list_models()) > 30]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def defaults(run_program, tmp_path_factory):
    return json.loads(run_program(DEFAULTS, cwd=tmp_path_factory.mktemp("defaults")).splitlines()[-1])


def test_softmax_behind_a_classifier_and_sigmoid_behind_a_segmenter(defaults):
    assert defaults["classifier"] == pytest.approx([1, 1], abs=1e-5)
    assert defaults["segmenter"] == ["sigmoid", "UNet3D", [None, None, None, None, 1]]
    assert defaults["name"] == "ResNet18"


def test_a_trans_unet_gives_logits_and_leaks_as_kerass_layer(defaults):
    assert defaults["trans_unet"] == [0.3, None, "TransUNet2D"]


def test_norms_of_the_decoder_have_kerass_numbers_and_of_the_encoder_pytorchs(defaults):
    assert defaults["decoder"] == [["batch", 1e-3, 0.01]]
    assert defaults["keras"] == pytest.approx([1e-3, 0.99])
    assert defaults["encoder"] == [[1e-5, 0.1]]
    assert defaults["no norm"] == [True, True, True]


def test_gates_stand_before_the_last_norm_and_round_down(defaults):
    assert set(defaults["gates"]) == {"SEResNet18", "SEResNeXt50", "UNet", "ResNetBackbone"}
    assert all(value == [True, True] for value in defaults["gates"].values()), defaults["gates"]


def test_both_spellings_and_any_case(defaults):
    assert defaults["spellings"] == ["resnet50v2", "resnet50v2", "resnet18", "resnext50"]
    assert defaults["unet by name"] == "UNet"
    family, many = defaults["families"]
    assert family == sorted([*(f"seresnet{n}" for n in (18, 34, 50, 101, 152)), "seresnext50", "seresnext101"])
    assert many


REFUSALS = """
import json, medicai, medicai.models as mm

def text(statement):
    try:
        exec(statement, {"mm": mm, "medicai": medicai})
    except Exception as error:
        return f"{type(error).__name__}: {error}"

print(json.dumps({statement: text(statement) for statement in json.loads(__import__("sys").argv[1])}))
"""
REFUSED = {
    "mm.ResNet18(input_shape=(8, 8, 1), weights='imagenet')": "BlueprintError: weights='imagenet'; expected",
    "mm.UNet(encoder_name='resnet18', input_shape=(8, 8, 1), decoder_filtres=(8,) * 5)": (
        "BlueprintError: unknown option decoder_filtres= for unet"
    ),
    "mm.UNet(encoder_name='resnet18', input_shape=(8, 8, 1), pyramid=True)": (
        "BlueprintError: unknown option pyramid="
    ),
    "mm.ResNet18(input_shape=(8, 8, 1), pooling='foo')": "BlueprintError: pooling='foo'",
    "mm.ResNet18(input_shape=(8, 8, 1), num_classes=3, classifier_activation='x')": (
        "BlueprintError: output_activation='x'"
    ),
    "mm.ResNet18(input_shape=(8, 1))": "BlueprintError: input_shape=(8, 1)",
    "mm.ResNetBackbone(input_shape=(8, 8, 1), num_blocks=[1] * 4, block_type='basic_block', depth=3)": (
        "BlueprintError: unknown option depth= for ResNetBackbone"
    ),
    "mm.create_model('resnet18_3d')": "UnknownModelError: 'resnet18_3d' in medicai.models",
    "mm.create_model('resnet19', input_shape=(8, 8, 1))": "UnknownModelError: unknown model 'resnet19'",
    "mm.list_models(family='resnets')": "UnknownModelError: unknown family 'resnets'",
    "mm.UNetPlusPlus(input_shape=(8, 8, 1))": "BlueprintError: encoder=None and encoder_name=None",
    "mm.AttentionUNet(encoder_name='resnet18')": "BlueprintError: AttentionUNet without input_shape",
    "mm.UNet(encoder_name='resnet18', input_shape=(8, 8, 1), head_upsample=1.5)": "BlueprintError: head_upsample=1.5",
    "mm.TransUNet(encoder_name='resnet18', input_shape=(8, 8, 1), num_layers=2)": (
        "BlueprintError: unknown option num_layers= for trans_unet"
    ),
    "mm.DenseNet121": "AttributeError: module 'medicai.models' has no attribute 'DenseNet121': this one is resvox's",
    "medicai.transforms": "AttributeError: module 'medicai' has no attribute 'transforms': this one is resvox's",
}


def test_what_medicai_would_swallow_is_refused_by_name(run_program, tmp_path):
    found = json.loads(run_program(REFUSALS, json.dumps(list(REFUSED)), cwd=tmp_path).splitlines()[-1])
    for statement, text in REFUSED.items():
        assert found[statement] is not None, statement
        assert found[statement].startswith(text), found[statement]


SAVED = """
import sys, numpy as np, keras, medicai.models as mm

backbone = mm.ResNetBackbone(input_shape=(8, 8, 1), num_blocks=[1, 1, 1, 1], block_type="bottleneck_block", groups=2,
                             width_per_group=8, num_filters=[8, 8, 8, 8], conv_filters=[8])
model = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])
x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
before = keras.ops.convert_to_numpy(model(x))
model.save("model.keras")
after = keras.ops.convert_to_numpy(keras.models.load_model("model.keras")(x))
assert np.array_equal(before, after)
print("same")
"""


def test_a_sequential_around_a_backbone_comes_back_from_its_file(run_program, tmp_path):
    assert run_program(SAVED, cwd=tmp_path).splitlines()[-1] == "same"


def test_keras_computes_with_torch_where_nobody_chose(run_program, tmp_path):
    program = "import medicai.models, keras; print(keras.backend.backend())"
    assert run_program(program, cwd=tmp_path, backend=None).splitlines()[-1] == "torch"


def test_the_names_load_no_more_than_they_need(run_program, tmp_path):
    program = "import sys, medicai; print(bool({'keras', 'torch'} & set(sys.modules)))"
    assert run_program(program, cwd=tmp_path) == "False\n"
    names = "import resnet3d, resvox.torch as t; print(resnet3d.BasicBlock is t.BasicBlock, 'keras' in sys.modules)"
    assert run_program("import sys\n" + names, cwd=tmp_path) == "True False\n"
    listed = (
        "import medicai.models as mm; print(set(mm.__all__) <= set(dir(mm)), all(hasattr(mm, n) for n in mm.__all__))"
    )
    assert run_program(listed, cwd=tmp_path) == "True True\n"


SEGMENTERS = """
import numpy as np, keras, medicai.models as mm

thin = {"num_blocks": [1, 1, 1, 1], "num_filters": [8, 8, 8, 8], "conv_filters": [8]}
x = np.random.default_rng(0).normal(size=(1, 21, 16, 1)).astype("float32")
few = {"num_vit_layers": 1, "num_heads": 2, "num_queries": 4, "embed_dim": 16, "mlp_dim": 16}
for name in ("UNet", "UNetPlusPlus", "AttentionUNet", "TransUNet"):
    options = few if name == "TransUNet" else {}
    encoder = mm.ResNetBackbone(input_shape=(21, 16, 1), block_type="basic_block", **thin)
    around = getattr(mm, name)(encoder=encoder, decoder_filters=(8, 8, 8, 8, 4), num_classes=2,
                                classifier_activation="sigmoid", **options)
    by_name = getattr(mm, name)(encoder_name="resnet10", input_shape=(21, 16, 1), encoder_depth=3, name="mine",
                              decoder_filters=(8, 8, 4), widths=(8, 8, 8, 8), stem_width=8, num_classes=2,
                              classifier_activation="softmax", head_upsample=2, **options)
    for model, size, kind in ((around, (21, 16), "sigmoid"), (by_name, (42, 32), "softmax")):
        before = keras.ops.convert_to_numpy(model(x))
        model.save("model.keras")
        loaded = keras.models.load_model("model.keras")
        assert np.array_equal(before, keras.ops.convert_to_numpy(loaded(x)))
        assert before.shape == (1, *size, 2), before.shape
        assert (abs(before.sum(-1) - 1).max() < 1e-5) == (kind == "softmax")
    assert around.name == f"{name}2D" and loaded.name == "mine"
    made = mm.create_model(name, encoder_name="resnet10", input_shape=(21, 16, 1), encoder_depth=2,
                           decoder_filters=(8, 8), widths=(8, 8, 8, 8), stem_width=8, **options)
    assert made.output_shape == (None, 21, 16, 1)
print("same")
"""


def test_the_segmenters_by_name_and_by_encoder_come_back_from_their_files(run_program, tmp_path):
    assert run_program(SEGMENTERS, cwd=tmp_path).splitlines()[-1] == "same"


def test_the_table_is_printed_at_the_call_in_a_script_and_not_at_a_prompt(run_program, tmp_path):
    call = "medicai.models.list_models(family='resnet')"
    assert run_program(f"import medicai\nnames = {call}", cwd=tmp_path).count("Model Registry Catalog") == 1
    for prompt in ("sys.ps1 = '>>> '", "builtins.__IPYTHON__ = True"):
        program = f"import builtins, sys\n{prompt}\nimport medicai\nnames = {call}\n"
        assert run_program(program, cwd=tmp_path) == ""
        assert run_program(program + "print(repr(names))", cwd=tmp_path).count("Model Registry Catalog") == 1


def test_a_transposed_unet_plus_plus_ends_with_a_learned_bridge(run_program, tmp_path):
    program = """
from medicai.models import UNetPlusPlus, create_model
model = UNetPlusPlus(encoder_name="resnet18", input_shape=(64, 64, 3), decoder_block_type="transpose")
bridge = model.get_layer("decoder_bridge_0")
print(model.count_params() - model.blueprint.statistics, bridge.kernel_size, bridge.strides, bridge.use_bias)
print(create_model("resnet10", name="mine", input_shape=(8, 8, 1)).name)
print(create_model(name="resnet10", input_shape=(8, 8, 1), weights=None).name)
"""
    lines = run_program(program, cwd=tmp_path).splitlines()
    assert lines == ["23085281 (4, 4) (2, 2) True", "mine", "ResNet10"]
