"""nnU-Net's side of `predict_vs_nnunet.py`, run by the Python of an environment with nnU-Net.

python benchmarks/prediction/nnunet_peer.py make WORK CASE DEVICE [STEPS [SIDE]] # the model, by nnU-Net's own trainer
python benchmarks/prediction/nnunet_peer.py predict WORK CASE OUT # the label map; the last line is JSON
"""

from __future__ import annotations

import json
import os
import sys
import typing
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "tests" / "nnunet")]

from prediction.measure import Watch, cpu_seconds, memory_gb, peak_gb  # noqa: E402
from prediction.nnunet_case import CASES, Case  # noqa: E402

if typing.TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

TINY_STEPS = 3


def case_of(name: str) -> Case:
    found = next(case for case in CASES if case.name == name.removesuffix("-tiny"))
    return replace(found, tiny=name.endswith("-tiny"))


def make(work: Path, case: Case, device: str, steps: str = "", side: str = "") -> None:
    import torch
    from peer_runs import write_model

    torch.manual_seed(case.classes)
    folder = write_model(case.trained(), "3d_fullres", case.plans(), case.model_root(work))
    assert folder == case.model_folder(work), folder
    if case.steps:
        train(work, case, device, steps=int(steps or (TINY_STEPS if case.tiny else case.steps)), side=int(side or 0))


def train(work: Path, case: Case, device: str, *, steps: int, side: int) -> None:
    """Put trained weights into the checkpoint: cross-entropy on patches of the scan, as nnU-Net prepares it.

    Args:
        side: voxels of a patch along each axis; 0: those of a window.
    """
    import numpy as np
    import torch

    predictor = loaded(work, case)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    data, labels, _ = configuration.preprocessor_class(verbose=False).run_case(
        [str(case.scan_path(work))], str(case.labels_path(work)), plans, configuration, predictor.dataset_json
    )
    rng, side = np.random.default_rng(0), side or configuration.patch_size[0]
    missing = [(0, 0), *((0, max(0, side - size)) for size in data.shape[1:])]
    data, labels = np.pad(data, missing, mode="edge"), np.pad(labels, missing, mode="edge")
    places = [np.argwhere(labels[0] == value) for value in range(1, case.classes)]
    network = predictor.network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=steps)
    for step in range(steps):
        images, truths = [], []
        for found in places:
            centre = found[rng.integers(len(found))] + rng.integers(-side // 3, side // 3 + 1, 3)
            start = np.clip(centre - side // 2, 0, np.array(labels.shape[1:]) - side)
            box = tuple(slice(first, first + side) for first in start)
            images.append(data[(slice(None), *box)] + rng.normal(0, 0.02, (1, side, side, side)))
            truths.append(np.maximum(labels[(0, *box)], 0))
        image = torch.from_numpy(np.stack(images).astype(np.float32)).to(device)
        truth = torch.from_numpy(np.stack(truths).astype(np.int64)).to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            logits = network(image)
        loss = torch.nn.functional.cross_entropy(logits.float(), truth)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    path = case.model_folder(work) / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)  # written by `make`
    checkpoint["network_weights"] = network.cpu().state_dict()
    torch.save(checkpoint, path)
    precision = "bfloat16" if device == "cuda" else "float32"
    case.finished(work).write_text(f"{steps} steps with patches of {side} cubed in {precision}\n")


def loaded(work: Path, case: Case) -> nnUNetPredictor:
    """nnU-Net's predictor with the model of the case, mirroring off."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(case.model_folder(work)), (0,))
    return predictor


def predict(work: Path, case: Case, out: Path) -> dict[str, object]:
    """What `nnUNetPredictor.predict_from_files_sequential` does with one scan, with a clock between its steps."""
    import torch
    from nnunetv2.inference import predict_from_raw_data  # noqa: F401 - before the memory and the clock are read
    from nnunetv2.inference.export_prediction import export_prediction_from_logits

    own, cpu, watch = memory_gb(), cpu_seconds(), Watch()
    predictor = watch("load", lambda: loaded(work, case))
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    files = [str(case.scan_path(work))]
    data, _, properties = watch(
        "read, preprocess", lambda: preprocessor.run_case(files, None, plans, configuration, predictor.dataset_json)
    )
    logits = watch("network", lambda: predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu())
    out.mkdir(parents=True, exist_ok=True)
    watch(
        "export",
        lambda: export_prediction_from_logits(
            logits, properties, configuration, plans, predictor.dataset_json, str(out / "case")
        ),
    )
    return {
        "seconds": watch.seconds, "total": sum(watch.seconds.values()), "cpu": cpu_seconds() - cpu, "own_gb": own,
        "peak_gb": peak_gb(), "engine": f"torch {torch.__version__}, {torch.get_num_threads()} threads",
    }  # fmt: skip


def main(what: str, work: Path, case: Case, *rest: str) -> None:
    from peer_runs import declare_operators

    declare_operators()
    for name in ("raw", "preprocessed", "results"):  # folders that nnU-Net asks for and this does not use
        os.environ[f"nnUNet_{name}"] = str(work / "unused" / name)
    with redirect_stdout(sys.stderr):
        made = make(work, case, *rest) if what == "make" else predict(work, case, Path(rest[0]))
    print(json.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), case_of(sys.argv[3]), *sys.argv[4:])
