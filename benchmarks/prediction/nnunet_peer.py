"""nnU-Net's side of `predict_vs_nnunet.py`, run by the Python of an environment with nnU-Net.

python benchmarks/prediction/nnunet_peer.py make WORK CASE        # the model folder, by nnU-Net's own trainer
python benchmarks/prediction/nnunet_peer.py predict WORK CASE OUT # the label map; the last line is JSON
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "tests" / "nnunet")]

from prediction.measure import Watch, cpu_seconds, memory_gb, peak_gb  # noqa: E402
from prediction.nnunet_case import CASES, Case  # noqa: E402


def case_of(name: str) -> Case:
    found = next(case for case in CASES if case.name == name.removesuffix("-tiny"))
    return replace(found, tiny=name.endswith("-tiny"))


def make(work: Path, case: Case) -> None:
    import torch
    from peer_runs import write_model

    torch.manual_seed(case.classes)
    folder = write_model(case.trained(), "3d_fullres", case.plans(), case.model_root(work))
    assert folder == case.model_folder(work), folder


def predict(work: Path, case: Case, out: Path) -> dict[str, object]:
    """What `nnUNetPredictor.predict_from_files_sequential` does with one scan, with a clock between its steps."""
    import torch
    from nnunetv2.inference.export_prediction import export_prediction_from_logits
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    own, cpu, watch = memory_gb(), cpu_seconds(), Watch()
    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    folder = str(case.model_folder(work))
    watch("load", lambda: predictor.initialize_from_trained_model_folder(folder, (0,)))
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
        made = make(work, case) if what == "make" else predict(work, case, Path(rest[0]))
    print(json.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), case_of(sys.argv[3]), *sys.argv[4:])
