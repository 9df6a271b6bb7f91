"""Use what is installed, in the environment of one part: help, import, a prediction, and what the extra is for.

python checks.py PART
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Top-level modules that belong to an extra. A prediction loads those of its own extra that it needs, and no others.
EXTRAS = {"keras", "jax", "tensorflow", "openvino", "highdicom", "huggingface_hub", "slicerio", "TPTBox", "onnx",
          "onnxruntime", "nncf", "torchvision", "timm", "medicai", "resnet3d"}  # fmt: skip
LOADED_BY_PREDICTION = {"openvino": {"openvino"}, "int8": {"openvino"}}
LABELS = {"background": 0, "dark": 3, "bright": 7}


def toy_model(path: Path) -> None:
    """An untrained U-Net with all that a prediction needs."""
    import resvox

    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=2, decoder_filters=(4, 4), widths=(4, 4, 4, 4), stem_width=4,
        spatial_dims=3, in_channels=1, num_classes=3,
    )  # fmt: skip
    window = {"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 1000.0}
    metadata = {
        "preprocessing": {"orientation": "SPL", "spacing_mm": None, "crop": "none", "normalization": [window]},
        "labels": LABELS,
        "channel_names": ["CT"],
        "inference": {"roi_size": [8, 8, 8], "overlap": 0.25, "mirror_axes": []},
        "task": "segmentation",
    }
    resvox.save_model(network, path, metadata=metadata)


def toy_scan(path: Path) -> None:
    """Noise in the range of a CT."""
    import numpy as np

    from resvox.volumes import Volume, write_volume

    array = np.random.default_rng(0).integers(-900, 900, (9, 10, 11)).astype(np.int16)
    write_volume(Volume(array, spacing_mm=(3.0, 1.0, 1.0)), path)


def toy_series(folder: Path) -> None:
    """A CT series of nine slices."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    study, series, frame = (generate_uid() for _ in range(3))
    for number in range(9):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.Modality, image.InstanceNumber = "CT", number + 1
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 3 * number], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness, image.Rows, image.Columns = [1, 1], 3, 12, 12
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleSlope, image.RescaleIntercept = 1, 0
        image.PixelData = np.full((12, 12), 100 * number, np.int16).tobytes()
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def command(*words: object, fails: bool = False, **environment: str) -> str:
    """The output of the command `resvox`; with ``fails`` its one line of error."""
    program = Path(sys.executable).with_name("resvox")
    program = program if program.exists() else Path(sys.executable)
    start = [str(program)] if program.name == "resvox" else [str(program), "-m", "resvox"]
    done = subprocess.run(
        [*start, *map(str, words)], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1", **environment}
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    if fails:
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done.stderr
    return done.stdout


def loaded_by(statement: str, **environment: str) -> set[str]:
    """Modules of extras that a fresh interpreter holds after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1])) & EXTRAS


def check_all(part: str) -> str:
    """What every environment does: help, version, import, a prediction that loads nothing of other extras."""
    import resvox

    assert "site-packages" in resvox.__file__, resvox.__file__
    for each in ("--help", "predict --help", "--version"):
        assert "resvox" in command(*each.split())
    assert loaded_by("import resvox, resvox.workflow, resvox.cli") == set()
    toy_model(Path("model.safetensors"))
    toy_scan(Path("scan.nii.gz"))
    loaded = loaded_by(
        "from resvox.workflow import predict\nassert predict('model.safetensors', 'scan.nii.gz', 'out').ok"
    )
    assert loaded <= LOADED_BY_PREDICTION.get(part, set()), loaded
    from resvox.volumes import read_label_map

    labels = read_label_map("out/scan.nii.gz").array
    assert labels.shape == (9, 10, 11)
    assert set(labels.ravel().tolist()) <= set(LABELS.values())
    return "help, import, prediction"


def check_core() -> str:
    """Without any extra, each of their features is one line that names the extra."""
    for extra, words in {
        "dicom": ("predict", "model.safetensors", "series", "-o", "dicom", "--dicom", "seg"),
        "hub": ("predict", "hf://owner/name", "scan.nii.gz", "-o", "hub"),
        "serve": ("serve", "model.safetensors", "--port", "0"),
        "demo": ("demo", "-o", "demo"),
        "int8": ("export", "model.safetensors", "--format", "openvino", "--precision", "int8"),
    }.items():
        if extra == "dicom":
            toy_series(Path("series"))
        error = command(*words, fails=True)
        assert f"resvox[{extra}]" in error, error
    refused = (
        "import resvox\n"
        "try: resvox.load_model('model.safetensors', framework='keras')\n"
        "except (resvox.errors.ResvoxError, ImportError) as error: assert 'keras' in str(error)\n"
        "else: raise AssertionError('Keras is installed')"
    )
    assert loaded_by(refused) == set()
    command("view", "scan.nii.gz", "out/scan.nii.gz", "-o", "page.html", "--no-open")
    assert Path("page.html").stat().st_size > 1e6, "the viewer's script is not in the page"
    return "extras are named in one line, view"


def check_keras(backend: str = "torch") -> str:
    """The same outputs in both frameworks."""
    code = (
        "import numpy as np, resvox, torch\n"
        "x = np.random.default_rng(0).normal(size=(1, 8, 8, 8, 1)).astype('float32')\n"
        "a = resvox.load_model('model.safetensors')(torch.from_numpy(np.moveaxis(x, -1, 1))).detach().numpy()\n"
        "import keras\n"
        "b = keras.ops.convert_to_numpy(resvox.load_model('model.safetensors', framework='keras')(x))\n"
        "assert np.abs(np.moveaxis(b, -1, 1) - a).max() < 1e-4"
    )
    loaded = loaded_by(code, KERAS_BACKEND=backend)
    wanted = {"keras"} | ({backend} - {"torch"})
    assert wanted <= loaded, loaded
    assert not loaded & (EXTRAS - wanted - {"jax"}), loaded  # Keras itself looks for jax where it is installed
    return f"Keras on {backend} gives PyTorch's outputs"


def check_openvino() -> str:
    """The engine runs."""
    command("predict", "model.safetensors", "scan.nii.gz", "-o", "fast", "--engine", "openvino")
    return "predict --engine openvino"


def check_int8() -> str:
    """A network is quantized; the labels of an untrained one may change."""
    code = (
        "from resvox.inference import Allowance\n"
        "from resvox.workflow import export, export_int8\n"
        "export_int8.LABELS = Allowance(share=1.0, least_dice=0.0)\n"
        "export('model.safetensors', format='openvino', precision='int8', calibrate='scan.nii.gz')"
    )
    loaded_by(code)
    command("predict", "model.safetensors", "scan.nii.gz", "-o", "quantized", "--precision", "int8")
    return "export --precision int8"


def check_dicom() -> str:
    """A series becomes a DICOM SEG."""
    toy_series(Path("series"))
    command("predict", "model.safetensors", "series", "-o", "dicom", "--dicom", "seg")
    assert list(Path("dicom").glob("*.dcm"))
    return "predict --dicom seg"


def check_hub() -> str:
    """A rehearsal prints the card; an address without a hub is one line."""
    shown = command("publish", "model.safetensors", "--to", "hf://owner/name", "--licence", "mit", "--dry-run")
    assert "| 7 | bright |" in shown
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": "cache"}
    assert "cannot be reached" in command("predict", "hf://o/n", "scan.nii.gz", "-o", "x", fails=True, **nowhere)
    return "publish --dry-run"


def check_serve() -> str:
    """The server starts, answers, and refuses other machines without a token."""
    assert "without a token" in command("serve", "model.safetensors", "--host", "0.0.0.0", fails=True)
    code = (
        "import json, urllib.request\n"
        "def ask(url):\n"
        "    import os, signal\n"
        "    import threading\n"
        "    def look():\n"
        "        print(json.load(urllib.request.urlopen(url + '/models'))['models'][0]['labels'])\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    threading.Thread(target=look).start()\n"
        "if __name__ == '__main__':\n"
        "    from resvox.workflow import serve\n"
        "    serve({'models': ('model.safetensors',), 'port': 0, 'log_level': 'error'}, on_ready=ask)"
    )
    Path("serving.py").write_text(code)
    done = subprocess.run([sys.executable, "serving.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bright" in done.stdout
    return "serve"


def check_files_of(package: str) -> str:
    """The scans of a package are there."""
    import importlib.util

    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    scans = [path for path in Path(spec.origin).parent.rglob("*") if path.name.endswith((".nrrd", ".nii.gz"))]
    assert scans, spec.origin
    return f"{len(scans)} scans in {package}"


def check_import(package: str) -> str:
    """The package of an extra is there, and the core did not load it."""
    import importlib

    importlib.import_module(package)
    return package


def check_drop_in() -> str:
    """Both import names build a network."""
    code = (
        "import medicai.models, resnet3d\n"
        "assert medicai.models.ResNet18(input_shape=(16, 16, 16, 1), num_classes=2).count_params() > 0\n"
        "assert resnet3d.ResNet18_3D(in_channels=1, out_channels=2) is not None"
    )
    assert {"medicai", "resnet3d", "keras"} <= loaded_by(code)
    return "medicai and resnet3d"


OWN = {
    "core": check_core,
    "keras": check_keras,
    "jax": lambda: check_keras("jax"),
    "tensorflow": lambda: check_keras("tensorflow"),
    "openvino": check_openvino,
    "int8": check_int8,
    "dicom": check_dicom,
    "hub": check_hub,
    "serve": check_serve,
    "demo": lambda: check_files_of("slicerio"),
    "unseen": lambda: check_files_of("TPTBox"),
    "s3": lambda: check_import("s3fs"),
    "gcs": lambda: check_import("gcsfs"),
    "azure": lambda: check_import("adlfs"),
    "parquet": lambda: check_import("pyarrow"),
    "ray": lambda: check_import("ray"),
    "drop-in": check_drop_in,
}


def main() -> None:
    """Check one part in an empty folder."""
    part = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["RESVOX_CACHE"] = str(Path(folder) / "cache")
        print("; ".join([check_all(part), *([OWN[part]()] if part in OWN else [])]))
        os.chdir("/")


if __name__ == "__main__":
    main()
