"""The scans and model folders of `predict_vs_nnunet.py`. NumPy and the standard library, for both environments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

STAGES = 6
WIDTHS = (32, 64, 128, 256, 320, 320)
BLOCKS = (1, 3, 4, 6, 6, 6)
PATCH = 96
TINY_WIDTHS = (4, 6, 8, 8, 10, 10)
TINY_PATCH = 64
TINY = 6  # the factor by which a tiny scan and its spacing are coarser
KIND = "resample_data_or_seg_to_shape"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scan, and the model that is run on it.

    Args:
        name: of the row.
        scan: "ct" or "mr".
        classes: of the network, background included.
        plan_mm: the spacing of the plan, on all axes.
        steps: of training, on the scan itself; 0 for random weights.
        tiny: a small network and a small scan, to see that everything runs.
    """

    name: str
    scan: str
    classes: int
    plan_mm: float
    steps: int = 0
    tiny: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the scan: z, y, x."""
        whole = {"ct": (300, 512, 512), "mr": (176, 224, 224)}[self.scan]
        return tuple(size // TINY for size in whole) if self.tiny else whole

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """The spacing of the scan: z, y, x."""
        fine = {"ct": (1.0, 0.63, 0.63), "mr": (1.0, 1.0, 1.0)}[self.scan]
        return tuple(mm * TINY for mm in fine) if self.tiny else fine

    @property
    def voxels(self) -> int:
        """How many voxels the scan has."""
        z, y, x = self.shape
        return z * y * x

    def scan_path(self, work: Path) -> Path:
        """The file of the scan, alone in its folder."""
        return work / "scans" / f"{self.scan}{'-tiny' * self.tiny}" / "case_0000.nii.gz"

    def labels_path(self, work: Path) -> Path:
        """The labels that a network is trained on."""
        return work / "scans" / f"{self.scan}{'-tiny' * self.tiny}-labels" / "case.nii.gz"

    def converted(self, work: Path) -> Path:
        """The model folder as one file, beside which the int8 network lies."""
        return self.model_root(work) / "model.safetensors"

    def model_root(self, work: Path) -> Path:
        """Where the model folder is written."""
        return (
            work
            / "models"
            / f"{self.scan}-{self.classes}-{self.plan_mm:g}{'-trained' * bool(self.steps)}{'-tiny' * self.tiny}"
        )

    def model_folder(self, work: Path) -> Path:
        """The model folder of nnU-Net."""
        return self.model_root(work) / "Dataset001_Toy" / "nnUNetTrainer__nnUNetPlans__3d_fullres"

    def finished(self, work: Path) -> Path:
        """The last file of the model folder that is written."""
        return self.model_folder(work) / ("trained.txt" if self.steps else "dataset.json")

    def trained(self) -> SimpleNamespace:
        """What `tests/nnunet/peer_runs.py` needs to write a model with nnU-Net's own trainer."""
        return SimpleNamespace(
            trainer="nnUNetTrainer", folds=(0,), dataset=self.dataset(), mirror_axes="trainer", seed=self.classes
        )

    def dataset(self) -> dict[str, object]:
        """The content of dataset.json."""
        labels = {"background": 0, **{f"structure {value}": value for value in range(1, self.classes)}}
        channels = {"0": self.scan.upper()}
        return {"channel_names": channels, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}

    def plans(self) -> dict[str, object]:
        """The content of plans.json."""
        intensity = {"max": 3000.0, "mean": 0.0, "median": 0.0, "min": -1024.0, "std": 400.0}
        intensity |= {"percentile_00_5": -950.0, "percentile_99_5": 1200.0}
        return {
            "dataset_name": "Dataset001_Toy",
            "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": list(self.spacing_mm),
            "original_median_shape_after_transp": list(self.shape),
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {"3d_fullres": self._configuration()},
            "experiment_planner_used": "nnUNetPlannerResEncL",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {"0": intensity},
        }

    def _configuration(self) -> dict[str, object]:
        mm = self.plan_mm * (TINY if self.tiny else 1)
        resampling: dict[str, object] = {}
        for what, is_seg, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1)):
            resampling[f"resampling_fn_{what}"] = KIND
            resampling[f"resampling_fn_{what}_kwargs"] = {
                "is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None
            }  # fmt: skip
        return {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [TINY_PATCH if self.tiny else PATCH] * 3,
            "median_image_size_in_voxels": [float(size) for size in self.shape],
            "spacing": [mm] * 3,
            "normalization_schemes": ["CTNormalization" if self.scan == "ct" else "ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "batch_dice": False,
            **resampling,
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
                "arch_kwargs": self._network(),
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }

    def _network(self) -> dict[str, object]:
        return {
            "n_stages": STAGES,
            "features_per_stage": list(TINY_WIDTHS if self.tiny else WIDTHS),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * STAGES,
            "strides": [[1, 1, 1], *[[2, 2, 2]] * (STAGES - 1)],
            "n_blocks_per_stage": [1] * STAGES if self.tiny else list(BLOCKS),
            "n_conv_per_stage_decoder": [1] * (STAGES - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }


# With many classes the plan is coarse, as in published models for many structures, and most of the time goes to export.
CASES = (
    Case(name="ct-3", scan="ct", classes=3, plan_mm=1.5),
    Case(name="ct-3-coarse", scan="ct", classes=3, plan_mm=3.0),
    Case(name="ct-25", scan="ct", classes=25, plan_mm=3.0),
    Case(name="ct-117", scan="ct", classes=117, plan_mm=3.0),
    Case(name="mr-3", scan="mr", classes=3, plan_mm=1.0),
    Case(name="mr-25", scan="mr", classes=25, plan_mm=1.5),
    Case(name="ct-3-trained", scan="ct", classes=3, plan_mm=2.0, steps=400),
    Case(name="mr-3-trained", scan="mr", classes=3, plan_mm=1.5, steps=400),
)
