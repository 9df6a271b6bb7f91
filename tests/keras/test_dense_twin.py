"""ResNet18_3D in Keras: the same numbers as in PyTorch from the same tensors, on every backend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import resvox

PROGRAM = """
import sys
import numpy as np, torch, keras
import resvox, resvox.keras
from resvox.errors import BlueprintError
from resvox.keras.tensors import fill, tensors_of as keras_tensors
from resvox.torch.tensors import fill as fill_torch, tensors_of

THIN = {"depths": (1, 1), "widths": (4, 8), "in_channels": 2, "num_classes": 3}
rng = np.random.default_rng(0)
cases, sizes = [(3, {})], [(5, 3, 7)]
if keras.backend.backend() == "torch":  # where nothing is compiled anew for every size
    cases += [
        (2, {}), (2, {"shortcut": "zero_pad", "activation": "silu"}), (3, {"norm": "instance", "stride": (1, 2, 2)})
    ]
    sizes += [(6, 4, 8), (1, 1, 1)]
for dims, options in cases:
    theirs = resvox.create_model("resnet18_3d", spatial_dims=dims, **THIN, **options).eval()
    ours = resvox.create_model("resnet18_3d", framework="keras", spatial_dims=dims, **THIN, **options)
    tensors = {n: rng.uniform(0.5, 1.5, t.shape).astype("float32") if n.endswith("running_var")
               else rng.normal(0, 0.3, t.shape).astype("float32") for n, t in tensors_of(theirs).items()}
    fill_torch(theirs, tensors)
    fill(ours, tensors)
    back = keras_tensors(ours)
    assert all(np.array_equal(back[n], t) for n, t in tensors.items()) and set(back) == set(tensors)
    assert ours.count_params() == ours.blueprint.parameters + ours.blueprint.statistics
    for size in sizes:
        x = rng.normal(size=(2, 2, *size[:dims])).astype("float32")
        wanted = theirs(torch.from_numpy(x)).detach().numpy()
        found = np.moveaxis(keras.ops.convert_to_numpy(ours(np.moveaxis(x, 1, -1), training=False)), -1, 1)
        assert found.shape == wanted.shape == (2, 3, *size[:dims])
        difference = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert difference < 1e-4, (dims, options, size, difference)

path = sys.argv[1] + "/model.keras"
model = resvox.keras.ResNet18_3D(input_shape=(5, 4, None, 1), out_channels=2, depths=(1,), widths=(4,), name="mine")
assert model.output.shape == (None, 5, 4, None, 2)
assert model.pyramid_outputs == {}
model.save(path)
loaded = keras.models.load_model(path)
x = rng.normal(size=(1, 5, 4, 3, 1)).astype("float32")
assert type(loaded) is resvox.keras.ResNet18_3D and loaded.name == "mine"
assert np.array_equal(*(keras.ops.convert_to_numpy(m(x, training=False)) for m in (model, loaded)))
resvox.save_model(model, sys.argv[1] + "/model.safetensors")
torch_model = resvox.load_model(sys.argv[1] + "/model.safetensors")
found = torch_model(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).detach().numpy()
wanted = np.moveaxis(keras.ops.convert_to_numpy(model(x, training=False)), -1, 1)
assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
for arguments, text in [({}, "without input_shape"), ({"input_shape": (4, 4, 1), "dropout": 1}, "dropout=")]:
    try:
        resvox.keras.ResNet18_3D(**arguments)
    except BlueprintError as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)
print("whole")
"""


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_the_twin_agrees(backend, tmp_path):
    source = str(Path(resvox.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": source, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("whole\n"), done.stderr[-3000:]
