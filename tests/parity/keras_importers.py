"""One process a Keras backend: peers' weights in our Keras models. ``python keras_importers.py FOLDER RESULT NAME...``.

FOLDER holds PyTorch peers' state dicts and answers, NAMEs are Keras peers. RESULT becomes JSON: for each case its
largest relative differences, or a traceback.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

import keras
import numpy as np
from keras_peers import PEERS, drawn

import resvox
from resvox.errors import WeightsError


def relative(a, b):
    a, b = (np.asarray(keras.ops.convert_to_numpy(each)) for each in (a, b))
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.isfinite(b).all()
    assert b.std() > 1e-4
    return float(np.abs(a - b).max() / np.abs(b).max())


def last(x):
    return x[-1] if isinstance(x, list | tuple) else x


def image(size, seed=1):
    return np.random.default_rng(seed).normal(size=(2, *size, 3)).astype(np.float32)


def of_pytorch(folder, name):
    """A PyTorch peer's file in our Keras model against that peer's own answers; and back, bit for bit."""
    told = json.loads((folder / f"{name}.json").read_text())
    source = folder / f"{name}.safetensors"
    model = resvox.create_model_from(source, peer=told["peer"], framework="keras", **told["options"])
    found = {}
    places = sorted(folder.glob(f"{name}-answer-*.npz"))
    for place in places if keras.backend.backend() != "jax" else places[-1:]:  # JAX compiles every shape anew
        with np.load(place) as answer:
            x, wanted = (np.moveaxis(answer[key], 1, -1) if answer[key].ndim > 2 else answer[key] for key in "xy")
        found[place.stem] = relative(last(model(x, training=False)), wanted)
    result = {"differences": found}
    if told["export"]:
        back = folder / f"{name}-{keras.backend.backend()}.safetensors"
        resvox.export_weights(model, back, peer=told["export"])
        given, again = (dict(resvox.weights.formats.flat.read_flat(path)) for path in (source, back))
        same = {key: given[key] for key in given if "num_batches" not in key}
        result["identical"] = all(np.array_equal(again[key], value) for key, value in same.items())
        result["identical"] &= set(again) == set(given)
    return result


def of_keras(name, folder):
    """A Keras peer's files in our models, in Keras and (once) in PyTorch; and back into the peer's own model."""
    make, sizes, peer = PEERS[name]
    found, identical = {}, True
    for size in sizes if keras.backend.backend() != "jax" else sizes[-1:]:
        theirs = drawn(make(size))
        x = image(size)
        wanted = theirs(x, training=False)
        endings = written(theirs, folder / name)
        for ending in endings if size == sizes[-1] else [next(endings)]:
            path = folder / f"{name}{ending}"
            ours = resvox.create_model_from(path, framework="keras")
            found[f"{size}{ending}"] = relative(ours(x, training=False), wanted)
            refuse_elsewhere(path)
        if keras.backend.backend() == "torch":
            import torch

            torch_model = resvox.create_model_from(folder / f"{name}.weights.h5")
            with torch.no_grad():
                y = last(torch_model(torch.from_numpy(np.moveaxis(x, -1, 1).copy())))
            y = y.numpy() if y.ndim == 2 else np.moveaxis(y.numpy(), 1, -1)
            found[f"{size} torch"] = relative(y, wanted)
            identical &= comes_back(torch_model, make(size), theirs, folder, peer)
    return {"differences": found, "identical": bool(identical)}


def written(theirs, stem):
    """The endings of the files that Keras itself writes."""
    theirs.save_weights(f"{stem}.weights.h5")
    yield ".weights.h5"
    if not any("squeeze" in layer.name for layer in theirs.layers):  # the old format knows no layers in layers
        theirs.save(f"{stem}.h5")
        yield ".h5"
        theirs.save(f"{stem}.keras")
        yield ".keras"


def refuse_elsewhere(path):
    """A model of another kind refuses the file."""
    if path.name.endswith(".weights.h5") and "applications" in path.name:
        plain = resvox.get_blueprint("resnet50", num_classes=5)
        wrong = resvox.keras.build(plain)
        try:
            resvox.load_weights(wrong, path)
        except WeightsError:
            return
        raise AssertionError("another network's weights were taken")


def comes_back(model, again, theirs, folder, peer):
    """Torch to the peer's file to the peer's own model: every weight is the same."""
    endings = (".weights.h5", ".h5") if peer == "keras.applications" else (".weights.h5",)
    for ending in endings:
        path = resvox.export_weights(model, folder / f"back{ending}", peer=peer)
        again.load_weights(path)
        for a, b in zip(again.weights, theirs.weights, strict=True):
            if not np.array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)):
                return False
    return True


def adapted(folder):
    """A 2D classifier's weights in the encoder of a 3D segmenter: the same tensors in Keras and in PyTorch."""
    from resvox.keras.tensors import tensors_of

    made = {"encoder_name": "resnet50v2", "depths": (1, 2, 1, 1), "spatial_dims": 3, "in_channels": 1,
            "decoder_filters": (8, 8, 8, 8, 4)}  # fmt: skip
    said = {"first_conv": "repeat", "classifier": "drop", "inflate": "average", "inflate_axis": 1}
    ours = resvox.create_model("unet", framework="keras", **made)
    before = {name: value.copy() for name, value in tensors_of(ours).items()}
    report = resvox.load_weights(ours, folder / "timm-v2.safetensors", **said)
    twin = resvox.create_model("unet", **made)
    assert resvox.load_weights(twin, folder / "timm-v2.safetensors", **said) == report
    after, wanted = tensors_of(ours), twin.state_dict()
    same = all(np.array_equal(after[name], wanted[name].numpy()) for name in report.used)
    kept = all(np.array_equal(after[name], before[name]) for name in report.kept)
    return {"differences": {"tensors": 0.0}, "identical": same and kept and len(report.used) > 50}


def attempt(function, *arguments):
    begin = time.process_time()
    try:
        result = function(*arguments)
    except Exception:
        result = {"failed": traceback.format_exc()[-3000:]}
    return {**result, "seconds": round(time.process_time() - begin, 2)}


if __name__ == "__main__":
    folder, result = Path(sys.argv[1]), Path(sys.argv[2])
    names = [name for name in sys.argv[3:] if name not in PEERS]
    results = {name: attempt(of_pytorch, folder, name) for name in names}
    if "timm-v2" in names:
        results["adapted"] = attempt(adapted, folder)
    with tempfile.TemporaryDirectory() as place:
        results.update({name: attempt(of_keras, name, Path(place)) for name in sys.argv[3:] if name in PEERS})
    result.write_text(json.dumps(results))
