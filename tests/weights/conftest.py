"""Small networks and files of their weights, of every kind."""

import io
import zipfile

import numpy as np
import pytest
import torch

import resvox
from resvox.weights.exporting import ordered_layers
from resvox.weights.formats.hdf5_writing import new_keras_file, old_keras_file

THIN = {"widths": (4, 4, 4, 4), "stem_width": 4, "depths": (1, 1, 1, 1), "num_classes": 3}


def draw(model, seed=0):
    """Every tensor of a torch model drawn, its statistics too."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    return model.eval()


@pytest.fixture(scope="session")
def thin():
    """Build a small network with drawn weights."""
    return lambda name="resnet18", seed=0, **options: draw(resvox.create_model(name, **{**THIN, **options}), seed)


@pytest.fixture(scope="session")
def weight_files(tmp_path_factory):
    """A file of every kind that is read, each with known tensors."""
    folder = tmp_path_factory.mktemp("files")
    model = draw(resvox.create_model("resnet18", **THIN))
    state = model.state_dict()
    torch.save(state, folder / "new.pth")
    torch.save({"state_dict": state, "epoch": 3}, folder / "old.pt", _use_new_zipfile_serialization=False)
    resvox.export_weights(model, folder / "flat.safetensors", peer="torchvision")
    resvox.export_weights(model, folder / "arrays.npz", peer="torchvision")
    layers = {
        "conv1_conv/kernel": np.arange(72, dtype=np.float32).reshape(3, 3, 2, 4),
        "conv1_bn/gamma": np.ones(4, np.float32),
        "conv1_bn/beta": np.zeros(4, np.float32),
    }
    (folder / "keras.weights.h5").write_bytes(new_keras_file(ordered_layers(layers)))
    (folder / "older.h5").write_bytes(old_keras_file(ordered_layers(layers)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", '{"config": {}}')
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", new_keras_file(ordered_layers(layers)))
    (folder / "model.keras").write_bytes(stream.getvalue())
    return {path.name: path for path in sorted(folder.iterdir())}
