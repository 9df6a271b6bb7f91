"""Toy models written by nnU-Net's own trainer, and what its own predictor makes of toy scans with them.

Runs where ``nnunetv2`` is installed (`make test-nnunet`): ``python tests/nnunet/peer_runs.py OUT [CASE...]`` writes per
case ``OUT/CASE/models/DatasetXXX/Trainer__Plans__configuration`` (a cascade has two), ``OUT/CASE/scans`` and
``OUT/CASE/reference.npz`` with nnU-Net's prepared array, logits, label map and probabilities of each scan, and
``OUT/CASE/reference32.npz`` with what it makes where its two arrays of sums are float32 instead of float16.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import SimpleITK
import tifffile
import torch
from peer_cases import CASES

VARIED = 4.0  # factor of the last layer of random networks, so that all labels occur


def make(case, out):
    """One case's folders, scans and references."""
    torch.manual_seed(case.seed)
    (out / "scans").mkdir(parents=True, exist_ok=True)
    scans = write_scans(case, out / "scans")
    first = first32 = None
    for name, plans in case.models():
        folder = write_model(case, name, plans, out / "models")
        first = reference(case, folder, scans, out, first, name="reference")
        with float32_sums():
            first32 = reference(case, folder, scans, out, first32, name="reference32")


def write_model(case, name, plans, root):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN

    trainer_class = {"nnUNetTrainer": nnUNetTrainer, "nnUNetTrainerBN": nnUNetTrainerBN}[case.trainer]
    folder = root / "Dataset001_Toy" / f"{case.trainer}__nnUNetPlans__{name}"
    for fold in case.folds:
        given = {**json.loads(json.dumps(plans)), "continue_training": False}
        trainer = trainer_class(given, name, fold, case.dataset, device=torch.device("cpu"))
        trainer.print_to_log_file = lambda *args, **kwargs: None
        # setting up a dataset is what `initialize` does first; only the network is wanted
        trainer.num_input_channels = inputs(plans, name, case.dataset)
        trainer.network = network(trainer)
        vary(trainer.network, case.seed + len(folder.name))
        trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if case.mirror_axes != "trainer":
            trainer.inference_allowed_mirroring_axes = case.mirror_axes
        target = folder / f"fold_{fold}"
        target.mkdir(parents=True, exist_ok=True)
        trainer.disable_checkpointing = False
        trainer.save_checkpoint(str(target / "checkpoint_final.pth"))
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(case.dataset))
    return folder


def inputs(plans, name, dataset):
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    return determine_num_input_channels(manager, manager.get_configuration(name), dataset)


def network(trainer):
    return trainer.build_network_architecture(
        trainer.plans_manager,
        trainer.configuration_manager,
        trainer.num_input_channels,
        trainer.label_manager.num_segmentation_heads,
        True,
    )


def vary(module, seed):
    """Statistics of batch norm and a last layer with which all labels occur."""
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("running_mean"):
                value.copy_(torch.randn(value.shape, generator=made) * 0.2)
            elif name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=made) + 0.5)
        head = module.decoder.seg_layers[-1]
        head.weight.mul_(VARIED)
        head.bias.copy_(torch.randn(head.bias.shape, generator=made) * 0.1)


def write_scans(case, folder):
    rng = np.random.default_rng(case.seed)
    scans = []
    for number, scan in enumerate(case.scans):
        files = []
        for channel in range(case.channels):
            array = field(rng, scan.shape, case.scheme)
            path = folder / f"case{number}_{channel:04d}{case.dataset['file_ending']}"
            if case.dataset["file_ending"] == ".png":
                SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array.astype(np.uint8)), str(path))
            elif case.dataset["file_ending"] == ".tif":
                tifffile.imwrite(path, array)
                if scan.spacing != (1.0, 1.0, 1.0):  # nnU-Net takes 1 mm without the file
                    (folder / f"case{number}.json").write_text(json.dumps({"spacing": scan.spacing}))
            else:
                image = SimpleITK.GetImageFromArray(array)
                image.SetSpacing([float(mm) for mm in reversed(scan.spacing)])
                image.SetDirection(scan.direction)
                image.SetOrigin([3.0, -7.5, 11.0])
                SimpleITK.WriteImage(image, str(path))
            files.append(str(path))
        scans.append(files)
    return scans


def field(rng, shape, scheme):
    """Blobs with noise, a border of zeros and a hole of zeros: whole numbers as in a CT, or fractions."""
    from scipy.ndimage import gaussian_filter

    array = gaussian_filter(rng.standard_normal(shape), [min(2, n / 6) for n in shape]) * 300
    array += rng.standard_normal(shape) * 20
    if scheme.startswith("RGB"):
        return np.clip(np.abs(array), 0, 255)
    array = array.astype(np.float32) + 90
    array[..., :3] = 0
    array[tuple(slice(n // 3, n // 3 + 2) for n in shape)] = 0
    return np.round(array).astype(np.int16) if scheme.startswith("CT") else array


@contextmanager
def float32_sums():
    """nnU-Net's predictor with float32 in place of `torch.half`, which it names for its two arrays of sums alone."""
    import nnunetv2.inference.predict_from_raw_data as module

    class Torch:
        half = torch.float32

        def __getattr__(self, name):
            return getattr(torch, name)

    module.torch = Torch()
    try:
        yield
    finally:
        module.torch = torch


def reference(case, folder, scans, out, first, *, name):
    """nnU-Net's results; ``first``: the label map files of a cascade's first stage."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=case.step, use_mirroring=case.mirroring, device=torch.device("cpu"), allow_tqdm=False,
        perform_everything_on_device=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(str(folder), case.folds)
    written, found = [], {}
    for number, files in enumerate(scans):
        reader = predictor.plans_manager.image_reader_writer_class()
        image, properties = reader.read_images(files)
        before = None if first is None else reader.read_seg(first[number])[0]
        data, properties = prepared(predictor, image, before, properties)
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
        labels, likely = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, predictor.plans_manager, predictor.configuration_manager, predictor.label_manager, properties, True
        )
        path = out / f"labels-{name}" / folder.name / f"case{number}{case.dataset['file_ending']}"
        path.parent.mkdir(parents=True, exist_ok=True)
        reader.write_seg(labels, str(path), properties)
        written.append(str(path))
        if "Reorient" in case.reader:  # the file has the axes of the scan, the array those of the network
            labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        found |= {
            f"data{number}": data, f"logits{number}": logits.numpy(), f"labels{number}": labels,
            f"probabilities{number}": likely.astype(np.float32),
        }  # fmt: skip
    np.savez_compressed(out / f"{name}.npz", **found)
    return written


def prepared(predictor, image, before, properties):
    from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy

    adapter = PreprocessAdapterFromNpy(
        [image], [before], [properties], [None], predictor.plans_manager, predictor.dataset_json,
        predictor.configuration_manager, num_threads_in_multithreaded=1, verbose=False,
    )  # fmt: skip
    made = next(adapter)
    return made["data"].numpy(), made["data_properties"]


def declare_operators():
    """Trainers import timm, which imports torchvision: beside a CPU build of torch it lacks two operators."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [each for each in sys.modules if each.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)


KEPT = []


def main(out, names):
    declare_operators()
    for name in ("raw", "preprocessed", "results"):  # folders that nnU-Net asks for and this does not use
        os.environ[f"nnUNet_{name}"] = str(out / "unused" / name)
    chosen = [case for case in CASES if not names or case.name in names]
    for case in chosen:
        with redirect_stdout(sys.stderr):
            make(case, out / case.name)
        found = np.load(out / case.name / "reference.npz")
        counts = [np.unique(found[f"labels{number}"], return_counts=True) for number in range(len(case.scans))]
        text = "; ".join(", ".join(f"{v}: {n}" for v, n in zip(*each, strict=True)) for each in counts)
        print(f"{case.name}: voxels per label {text}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
