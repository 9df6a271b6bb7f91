"""nnU-Net's own planner, trainer and predictor, its training ended by the time and not by the number of epochs.

The learning rate falls to 0 over the budget as it would over 1,000 epochs (polynomial, power 0.9). All cases train
("fold all"), and the final weights are kept, as it does by default. Its batches for monitoring and its pictures of
curves are left out, which cost time, and so is torch.compile, which takes longer than these budgets to begin.
"""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

from contender import HALF, PREDICTIONS, Budget, Settings, read_settings, save_facts, save_prediction

PLANS = "nnUNetPlans"
CONFIGURATION = "3d_fullres"


def prepare_environment(settings: Settings) -> None:
    """nnU-Net finds its folders in the environment, when it is imported."""
    base = settings.out / "nnunet"
    folders = {
        "nnUNet_raw": settings.data,
        "nnUNet_preprocessed": base / "prepared",
        "nnUNet_results": base / "results",
    }
    for name, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(folder.resolve())
    os.environ.update(nnUNet_compile="false")
    loaders = max(1, settings.threads - 1) if settings.device == "cuda" else 1
    os.environ.update(nnUNet_n_proc_DA=str(loaders), nnUNet_def_n_proc=str(settings.threads))


def plan_and_prepare(settings: Settings) -> str:
    """Fingerprint, plans and prepared cases; the name of the dataset."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess_dataset,
    )

    name = next(settings.data.glob("Dataset*")).name
    if (settings.out / "nnunet" / "prepared" / name / "prepared").is_file():
        return name
    extract_fingerprints([1], num_processes=settings.threads, show_progress_bar=False, verbose=False)
    spacing = None if settings.spacing_mm is None else (settings.spacing_mm,) * 3
    plan_experiments([1], overwrite_target_spacing=spacing)
    preprocess_dataset(1, PLANS, (CONFIGURATION,), (settings.threads,), show_progress_bar=False)
    (settings.out / "nnunet" / "prepared" / name / "prepared").touch()
    return name


def make_trainer(settings: Settings, name: str) -> Any:
    """nnU-Net's trainer, not yet started."""
    import torch
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    prepared = Path(str(nnUNet_preprocessed)) / name
    plans = load_json(str(prepared / f"{PLANS}.json"))
    plans["continue_training"] = False
    description = load_json(str(prepared / "dataset.json"))
    device = torch.device(settings.device)
    trainer = nnUNetTrainer(plans, CONFIGURATION, "all", description, device=device)
    trainer.plot_network_architecture = lambda: None
    return trainer


def train(trainer: Any, settings: Settings) -> tuple[int, float, Any]:
    """Steps until the time is spent; how many, the seconds, and the weights at half the time."""
    import torch

    trainer.on_train_start()
    trainer.network.train()
    steps, half = 0, trainer.network.state_dict()
    budget = Budget(settings.seconds)
    while budget.share < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - budget.share) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        steps += 1
        if budget.passes_half():
            half = copy.deepcopy(trainer.network.state_dict())
    if settings.device == "cuda":
        torch.cuda.synchronize()
    seconds = budget.spent
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()
    return steps, seconds, half


def predict(trainer: Any, settings: Settings, part: str) -> None:
    """Predict the held-out cases with nnU-Net's predictor, mirrored as it does by default."""
    import torch
    from brats_data import read_nifti
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(
        device=torch.device(settings.device),
        perform_everything_on_device=settings.device == "cuda",
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, [trainer.network.state_dict()],
        trainer.dataset_json, trainer.__class__.__name__, trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip
    source = next(settings.data.glob("Dataset*")) / "imagesTs"
    written = settings.out / "nnunet" / f"predicted_{part}"
    written.mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files_sequential(str(source), str(written))
    for path in sorted(written.glob("*.nii*")):
        save_prediction(settings.out, part, path.name.split(".")[0], read_nifti(path))


def main() -> None:
    """The command line."""
    settings = read_settings()
    settings.out.mkdir(parents=True, exist_ok=True)
    prepare_environment(settings)
    import torch

    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    torch.backends.cudnn.benchmark = True  # as its command does
    trainer = make_trainer(settings, plan_and_prepare(settings))
    steps, seconds, half = train(trainer, settings)
    print(f"nnU-Net: {steps} steps in {seconds:.1f} s", flush=True)
    predict(trainer, settings, PREDICTIONS)
    trainer.network.load_state_dict(half)
    predict(trainer, settings, HALF)
    configuration = trainer.configuration_manager
    save_facts(
        settings.out, settings, framework="nnU-Net", steps=steps, training_seconds=seconds,
        patch_size=list(configuration.patch_size), batch_size=configuration.batch_size,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
