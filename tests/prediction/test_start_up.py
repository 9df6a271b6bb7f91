"""A prediction with a compiled network in the cache starts without torch, MONAI and what else it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from resvox.cli.commands import MODULES

# None of them is needed for a NIfTI scan and a compiled network.
UNNEEDED = {
    *("torch", "monai", "keras", "matplotlib", "lightning_fabric", "scipy", "asyncio", "multiprocessing", "requests"),
    *("pydicom", "SimpleITK", "nibabel", "tifffile", "imagecodecs", "PIL", "safetensors"),
    *("openvino.tools.ovc.convert", "openvino_telemetry"),
    *("resvox.blueprint", "resvox.catalog", "resvox.weights.importers", "resvox.weights.nnunet", "resvox.fleet.run"),
    *("resvox.volumes.dicom.files", "resvox.volumes.itk"),
}
SCRIPT = """
import json, sys
from resvox.cli import main
sys.argv = ["resvox", "predict", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by_prediction(*arguments, **environment):
    """The modules that are loaded when `resvox predict` has ended."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("speed", ["full", "balanced"])
def test_a_compiled_network_is_used_without_torch_and_monai(make_model, write_scan, tmp_path, speed):
    scan = write_scan(tmp_path / "a.nii.gz")
    cache = {"RESVOX_CACHE": str(tmp_path / "cache")}
    options = (make_model(), scan, "--engine", "openvino", "--device", "cpu", "--speed", speed)
    first = loaded_by_prediction(*options, "-o", tmp_path / "first", **cache)
    assert "torch" in first  # the network is traced and compared
    second = loaded_by_prediction(*options, "-o", tmp_path / "second", **cache)
    assert "openvino" in second
    assert second & UNNEEDED == set()
    assert second & {f"resvox.cli.{name}" for name in MODULES} == {"resvox.cli.predict"}
    assert (tmp_path / "first/a.nii.gz").read_bytes() == (tmp_path / "second/a.nii.gz").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the device files of Linux")
def test_torch_is_asked_for_a_gpu_where_there_is_a_driver(monkeypatch, tmp_path):
    from resvox.inference.engines import devices

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(devices, "DRIVERS", (str(tmp_path / "nvidiactl"),))
    assert not devices.may_have_gpu()
    assert (devices.place_of("auto"), devices.place_of("cpu"), devices.gpu_count()) == ("cpu", "cpu", 0)
    (tmp_path / "nvidiactl").touch()
    assert devices.may_have_gpu()
