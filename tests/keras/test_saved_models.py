"""A saved Keras model is the model; names, precisions and maps through create_model. On Keras's torch backend."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import resvox

CHECKS = """
import json, sys, numpy as np, keras, resvox
from resvox.errors import ResvoxError

folder, dims = sys.argv[1], int(sys.argv[2])
THIN = {"widths": (8, 8, 8, 8), "stem_width": 8, "depths": (1, 1, 1, 1), "num_classes": 3}
UNET = {"decoder_filters": (8, 8, 8, 8, 8)}
VIT = {"num_vit_layers": 1, "num_heads": 2, "num_queries": 4, "embed_dim": 16, "mlp_dim": 16, "image_size": 32,
       "dropout_rate": 0.0}
shape = (*[20] * dims, 1)
image = np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")
found = {}

def make(name="resnet18", /, **options):
    keras.utils.set_random_seed(0)
    given = {"input_shape": shape, **THIN, **options}
    return resvox.create_model(name, framework="keras", **given)

def numbers(model):
    return keras.ops.convert_to_numpy(model(image))

def away(one, other):
    return float(np.abs(one - other).max() / np.abs(other).max())

def said(run):
    try:
        run()
    except (ResvoxError, ValueError) as error:
        return str(error)
    return ""

def both(model):
    return [said(lambda: resvox.save_model(model, f"{folder}/a.safetensors")),
            said(lambda: model.save(f"{folder}/a.keras"))]

# --- what is changed after building
CHANGES = {
    "eps": lambda m: setattr(m.get_layer("bn1"), "epsilon", 0.1),
    "momentum": lambda m: setattr(m.get_layer("bn1"), "momentum", 0.5),
    "activation": lambda m: setattr(m.get_layer("act1"), "activation", keras.activations.gelu),
    "stride": lambda m: setattr(m.get_layer("conv1"), "strides", (1,) * dims),
    "pooling": lambda m: setattr(m.get_layer("maxpool"), "pool_size", (1,) * dims),
    "call": lambda m: setattr(m.get_layer("act1"), "call", lambda x: x),
}
for name, change in CHANGES.items():
    model = make()
    change(model)
    found[name] = both(model)
found["untouched"] = both(make())

# --- quantized layers, and LoRA
for name, options in (("resnet18", {}), ("trans_unet", {**UNET, **VIT})):
    model = make(name, **options)
    model.quantize("int8")
    wanted = numbers(model)
    found[f"{name} int8"] = said(lambda: resvox.save_model(model, f"{folder}/b.safetensors"))
    found[f"{name} int8 load"] = said(lambda: resvox.load_weights(model, {}, peer="resvox"))
    model.save(f"{folder}/b.keras")
    again = keras.saving.load_model(f"{folder}/b.keras")
    found[f"{name} int8 keras"] = away(numbers(again), wanted)
    found[f"{name} modes"] = sorted({each.quantization_mode for each in again.layers if each.quantization_mode})
model = make()
layer = model.get_layer("fc")
layer.enable_lora(2)
layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape, "float32"))
wanted = numbers(model)
resvox.save_model(model, f"{folder}/c.safetensors")
found["lora"] = away(numbers(resvox.load_model(f"{folder}/c.safetensors", framework="keras")), wanted)
model.save(f"{folder}/c.keras")
found["lora keras"] = away(numbers(keras.saving.load_model(f"{folder}/c.keras")), wanted)
found["lora load"] = said(lambda: resvox.load_weights(model, f"{folder}/c.safetensors"))

# --- the older file of Keras
for name, options in (("resnet18v2", {}), ("unet", UNET)):
    model = make(name, **options)
    for path in (f"{folder}/d.h5", f"{folder}/d.hdf5"):
        model.save(path) if path.endswith("h5") else keras.saving.save_model(model, path)
        found[f"{name} {path[-3:]}"] = away(numbers(keras.saving.load_model(path)), numbers(model))

# --- names, precisions, maps
model = make("unet", name="mine", dtype="mixed_bfloat16", **UNET)
found["name"] = [model.name, model.get_layer("encoder_conv1").compute_dtype, model.dtype_policy.name]
model = resvox.create_model("resnet18", framework="keras", name="mine", input_tensor=keras.Input(shape),
                            include_rescaling=True, **THIN)
found["tensor"] = [model.name, model.include_rescaling, list(model.input.shape)]
model = resvox.create_model("resnet18", framework="keras", input_shape=np.array(shape), weights=None, pooling="max",
                            **{**THIN, "num_classes": np.int64(0)})
found["max"] = model.pooling
found["refused"] = said(lambda: make(weights="imagenet"))
model = make(features_only=True, out_indices=(1, -1), num_classes=None)
maps = model(image)
every = keras.Model(model.inputs, list(model.pyramid_outputs.values()))(image)
found["maps"] = [len(maps), all(bool((keras.ops.convert_to_numpy(a) == keras.ops.convert_to_numpy(b)).all())
                                for a, b in zip(maps, (every[1], every[4])))]
found["variant"] = [said(lambda: resvox.keras.ResNet18(input_shape=shape, weights=None, pretrained=False, **THIN)),
                    said(lambda: resvox.keras.ResNet18(input_shape=shape, weights="imagenet"))]

# --- a batch of one
model = make("unet", **UNET)
found["one"] = said(lambda: model(image[:1], training=True))
for each in model.layers:
    if isinstance(each, keras.layers.BatchNormalization):
        each.trainable = False
found["one frozen"] = [said(lambda: model(image[:1], training=True)),
                       bool(np.array_equal(keras.ops.convert_to_numpy(model(image[:1], training=True)),
                                           keras.ops.convert_to_numpy(model(image[:1]))))]
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.laws)])
def found(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHECKS, str(folder), str(request.param)],
        env={
            **os.environ,
            "KERAS_BACKEND": "torch",
            "PYTHONPATH": str(Path(resvox.__file__).parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("eps", "epsilon of bn1 is 0.1, not 1e-05"),
        ("momentum", "momentum of bn1 is 0.5"),
        ("activation", 'activation of act1 is "gelu", not "relu"'),
        ("stride", "strides of conv1 is [1, 1"),
        ("pooling", "pool_size of maxpool is [1, 1"),
        ("call", "call of act1 is of its own"),
    ],
)
def test_a_change_is_refused_by_name_in_every_file(found, change, words):
    for text in found[change]:
        assert words in text
        assert "build it with the options that say so" in text
    assert found["untouched"] == ["", ""]


@pytest.mark.parametrize("name", ["resnet18", "trans_unet"])
def test_quantized_layers(found, name):
    assert "is quantized (int8)" in found[f"{name} int8"]
    assert "model.save('model.keras')" in found[f"{name} int8"]
    assert found[f"{name} int8 keras"] < 1e-6
    assert found[f"{name} modes"] == ["int8"]


def test_lora(found):
    assert found["lora"] < 1e-6
    assert found["lora keras"] < 1e-6
    assert "have LoRA: fc" in found["lora load"]


def test_keras_older_files(found):
    assert [found[f"{name} {end}"] for name in ("resnet18v2", "unet") for end in (".h5", "df5")] == [0, 0, 0, 0]


def test_names_precisions_and_maps(found):
    assert found["name"] == ["mine", "bfloat16", "mixed_bfloat16"]
    assert found["tensor"][:2] == ["mine", True]
    assert found["max"] == "max"
    assert "no weights come with resvox" in found["refused"]
    assert found["maps"] == [2, True]
    assert found["variant"][0] == ""
    assert "no weights come with resvox" in found["variant"][1]


def test_a_batch_of_one(found):
    assert "the batch norm encoder.layer4.0.bn1 has one value per channel" in found["one"]
    assert found["one frozen"] == ["", True]
