"""Toy models whose label maps show every label, scans, archives, and a server in this process for the tests."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import nibabel
import numpy as np
import torch
import uvicorn
from delivery.series import write_series
from prediction.conftest import model_metadata

import resvox
from resvox.server.app import build_app
from resvox.server.scheduler import Scheduler
from resvox.server.service import Service
from resvox.server.settings import ServeSettings
from resvox.server.worker import Worker

ROI = 16


def make_model(folder: Path, *, channels: int = 1, **metadata) -> Path:
    """A saved U-Net of random weights, the classes of which differ everywhere."""
    torch.manual_seed(3)
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=2, decoder_filters=(4, 4), widths=(4, 4, 4, 4), stem_width=4,
        spatial_dims=3, in_channels=channels, num_classes=3,
    )  # fmt: skip
    with torch.no_grad():
        head = network.head
        head.weight.copy_(torch.randn_like(head.weight))
        head.bias.zero_()
        network.eval()
        sample = network(torch.randn(1, channels, ROI, ROI, ROI))
        head.bias.copy_(-sample.mean(dim=(0, 2, 3, 4)))
    described = model_metadata(channels, 3)
    described["inference"] = {"roi_size": [ROI] * 3, "overlap": 0.25, "mirror_axes": [0, 1]}
    described.update(metadata)
    folder.mkdir(parents=True, exist_ok=True)
    resvox.save_model(network, folder / "model.safetensors", metadata=described)
    return folder / "model.safetensors"


def write_scan(path: Path, seed: int = 0, shape=(20, 24, 18)) -> Path:
    """A NIfTI of noise, with an affine that is not diagonal."""
    array = np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16)
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def zipped_series(folder: Path, *, prefix: str = "study/") -> bytes:
    """The files of a new DICOM series as a zip archive."""
    write_series(folder)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    return content.getvalue()


def voxels(path: Path):
    """The stored numbers of a NIfTI file, in full."""
    return np.asanyarray(nibabel.load(path).dataobj)


class ThreadProcess:
    """A worker in a thread of this process, for tests that need no crash."""

    exitcode, pid = 0, None

    def __init__(self, pipe: Connection, settings: ServeSettings, device: str, lock: str) -> None:
        self._end, self._ended = Pipe(duplex=False)
        self.sentinel = self._end.fileno()
        self.worker = Worker(pipe, settings, device, leave=lambda code: None)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.worker.run()
        self._ended.close()

    def start(self) -> None:
        self.worker.pipe = Connection(os.dup(self.worker.pipe.fileno()))  # the caller closes the other one
        self.thread.start()

    def kill(self) -> None:
        self.worker.orders.put(None)

    def join(self, timeout=None) -> None:
        self.thread.join(timeout)

    def is_alive(self) -> bool:
        return self.thread.is_alive()


class RunningServer:
    """A server in a thread, reached by HTTP."""

    def __init__(self, settings: ServeSettings, process=ThreadProcess) -> None:
        def scheduler(*arguments) -> Scheduler:
            return Scheduler(*arguments, spawn=process)

        self.service = Service(settings, scheduler)
        config = uvicorn.Config(
            build_app(self.service), host="127.0.0.1", port=0, log_config=None, lifespan="on", server_header=False
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> RunningServer:
        self.thread.start()
        until(lambda: self.server.started)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *error) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()


def until(condition, seconds: float = 60.0) -> None:
    """Wait for a condition; the limit only ends a test that has failed."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.01)
