"""The paths that are compared, each run in a process of its own."""

from __future__ import annotations

import argparse
import time

import numpy as np
from prediction.case import WINDOW, metadata, model_path, result, roi, scans
from prediction.measure import Watch, cpu_seconds, memory_gb, peak_gb


def run_monai(options: argparse.Namespace) -> dict[str, object]:
    """MONAI's transforms as its tutorials chain them; the network in float32, or under bfloat16 autocast."""
    import torch
    from monai.data import decollate_batch
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        Invertd,
        LoadImaged,
        Orientationd,
        SaveImaged,
        ScaleIntensityRanged,
        Spacingd,
    )

    import resvox

    network = resvox.load_model(model_path(options)).to(options.device)
    spacing_mm = metadata(options)["preprocessing"]["spacing_mm"]  # type: ignore[index]
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="SPL"),
            Spacingd("image", pixdim=spacing_mm, mode="bilinear"),
            ScaleIntensityRanged("image", a_min=WINDOW[0], a_max=WINDOW[1], b_min=-1.0, b_max=1.0, clip=True),
        ]
    )
    out = result(options, options.child)
    after = [
        Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True),
        AsDiscreted("pred", argmax=True),
        SaveImaged("pred", output_dir=out, output_postfix="", separate_folder=False, print_log=False, dtype=np.uint8),
    ]
    autocast = options.child.endswith("amp")
    own, cpu, watch, start = memory_gb(), cpu_seconds(), Watch(), time.perf_counter()
    for path in scans(options):
        data = watch("read, preprocess", lambda path=path: before({"image": str(path)}))

        def network_pass(data: dict = data) -> object:  # type: ignore[type-arg]
            with torch.inference_mode(), torch.autocast(options.device, dtype=torch.bfloat16, enabled=autocast):
                batch = data["image"][None].to(options.device)
                return sliding_window_inference(batch, [roi(options)] * 3, 1, network, overlap=0.5, mode="gaussian")

        logits = watch("network", network_pass)
        data["pred"] = logits[0].float()
        (item,) = decollate_batch([data], detach=False) if isinstance(data, list) else (data,)
        for stage, transform in zip(("restore", "labels", "write"), after, strict=True):
            item = watch(stage, lambda transform=transform, item=item: transform(item))
    total = time.perf_counter() - start
    cpu = cpu_seconds() - cpu
    return {"seconds": watch.seconds, "total": total, "cpu": cpu, "own_gb": own, "peak_gb": peak_gb()}


def run_resvox(options: argparse.Namespace) -> dict[str, object]:
    """`resvox.workflow.predict`; the total includes loading the model and choosing the engine."""
    import torch  # noqa: F401 - the interpreter's own memory holds it, as it does in MONAI's process

    import resvox  # noqa: F401
    from resvox.workflow import predict

    variants = {
        "resvox-plain": {"engine": "torch-plain", "precision": "float32"},
        "resvox-float32": {"precision": "float32"},
        "resvox-bfloat16": {"precision": "bfloat16"},
        "resvox-balanced-float32": {"precision": "float32", "speed": "balanced"},
        "resvox-fast-float32": {"precision": "float32", "speed": "fast"},
        "resvox-balanced": {"speed": "balanced"},
        "resvox-fast": {"speed": "fast"},
        "resvox-int8": {"precision": "int8"},
        "resvox-balanced-int8": {"precision": "int8", "speed": "balanced"},
        "resvox-balanced-bfloat16": {"precision": "bfloat16", "speed": "balanced"},
        "resvox": {},
    }
    own, cpu, start = memory_gb(), cpu_seconds(), time.perf_counter()
    done = predict(
        model_path(options),
        scans(options),
        result(options, options.child),
        overwrite=True,
        device=options.device,
        **variants[options.child.replace("-old", "")],
    )
    total = time.perf_counter() - start
    assert done.ok, [case.reason for case in done.cases]
    cpu = cpu_seconds() - cpu
    memory = {"own_gb": own, "peak_gb": peak_gb()}
    speed = getattr(done, "speed", "")  # an older checkout has none
    engine = f"{done.engine}; {speed}" if speed else done.engine
    return {"seconds": done.seconds, "total": total, "cpu": cpu, **memory, "engine": engine}


CHILDREN = {"monai": run_monai, "resvox": run_resvox}
