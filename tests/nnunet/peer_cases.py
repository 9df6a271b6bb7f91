"""The toy models that are compared with nnU-Net: plans, labels and scans. Standard library alone."""

from __future__ import annotations

from dataclasses import dataclass, field

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
ROTATED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # axes permuted, one of them flipped
LABELS = {"background": 0, "left": 1, "right": 2, "middle": 3}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
INTENSITY = {"max": 900.0, "mean": 100.0, "median": 90.0, "min": -500.0, "std": 150.0}
INTENSITY |= {"percentile_00_5": -250.0, "percentile_99_5": 480.0}


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A scan in the order of its file: z, y, x."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...] = IDENTITY


ISOTROPIC = Scan(shape=(15, 20, 26), spacing=(1.5, 1.1, 1.1))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model with its scans that is compared."""

    name: str
    kind: str = "ResidualEncoderUNet"
    dims: int = 3
    scheme: str = "CTNormalization"
    masked: bool = False
    channels: int = 1
    spacing: tuple[float, ...] = (1.4, 1.3, 1.2)
    transpose: tuple[int, ...] = (0, 1, 2)
    torch_resampling: str | None = None  # "off": no axis on its own; "auto": by the spacings
    labels: dict = field(default_factory=lambda: LABELS)
    trainer: str = "nnUNetTrainer"
    folds: tuple = (0,)
    mirror_axes: object = "trainer"
    mirroring: bool = True
    step: float = 0.5
    scans: tuple[Scan, ...] = (ISOTROPIC,)
    reader: str = "SimpleITKIO"
    ending: str = ".nii.gz"
    old_plans: bool = False
    cascade: bool = False
    seed: int = 0

    @property
    def dataset(self):
        """The content of dataset.json."""
        order = {"regions_class_order": [1, 2, 3]} if any(isinstance(v, list) for v in self.labels.values()) else {}
        names = {str(channel): "CT" if self.scheme[0] == "C" else "MR" for channel in range(self.channels)}
        return {"channel_names": names, "labels": self.labels, "numTraining": 3, "file_ending": self.ending, **order}

    def models(self):
        """(configuration, plans) of every model, the first stage of a cascade first."""
        plans = self.plans()
        names = ["3d_lowres", "3d_cascade_fullres"] if self.cascade else ["2d" if self.dims == 2 else "3d_fullres"]
        return [(name, plans) for name in names]

    def plans(self):
        """The content of plans.json."""
        order = list(self.transpose)
        full = self.configuration(self.spacing)
        configurations = {"2d" if self.dims == 2 else "3d_fullres": full}
        if self.cascade:
            configurations["3d_lowres"] = {
                **self.configuration([2 * mm for mm in self.spacing]), "next_stage": "3d_cascade_fullres"
            }  # fmt: skip
            configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
        return {
            "dataset_name": "Dataset001_Toy",
            "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
            "original_median_shape_after_transp": [20, 20, 20],
            "image_reader_writer": self.reader,
            "transpose_forward": order,
            "transpose_backward": [order.index(axis) for axis in range(3)],
            "configurations": configurations,
            "experiment_planner_used": "ExperimentPlanner",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {str(n): INTENSITY for n in range(self.channels)},
        }

    def configuration(self, spacing):
        """The content of a configuration in plans.json."""
        made = {
            "data_identifier": "toy",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [12, 16, 16][-self.dims :],
            "median_image_size_in_voxels": [20.0] * self.dims,
            "spacing": list(spacing)[-self.dims :],
            "normalization_schemes": [self.scheme] * self.channels,
            "use_mask_for_norm": [self.masked] * self.channels,
            "batch_dice": False,
            **self.resampling(),
        }
        stages = {
            "kernels": [[1] + [3] * (self.dims - 1), [3] * self.dims, [3] * self.dims],
            "strides": [[1] * self.dims, [2] * self.dims, [1] + [2] * (self.dims - 1)],
        }
        if self.old_plans:
            return made | {
                "UNet_class_name": self.kind,
                "UNet_base_num_features": 4,
                "unet_max_num_features": 8,
                "n_conv_per_stage_encoder": [1, 2, 1],
                "n_conv_per_stage_decoder": [1, 2],
                "num_pool_per_axis": [1, 2, 2][-self.dims :],
                "pool_op_kernel_sizes": stages["strides"],
                "conv_kernel_sizes": stages["kernels"],
            }
        blocks = "n_conv_per_stage" if self.kind == "PlainConvUNet" else "n_blocks_per_stage"
        arguments = {
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{self.dims}d",
            "kernel_sizes": stages["kernels"],
            "strides": stages["strides"],
            blocks: [1, 2, 1],
            "n_conv_per_stage_decoder": [1, 2],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{self.dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }
        made["architecture"] = {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{self.kind}",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
        return made

    def resampling(self):
        """The six keys of resampling."""
        made = {}
        for what, is_seg, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1)):
            name = f"resampling_fn_{what}"
            if self.torch_resampling is None:
                made[name] = "resample_data_or_seg_to_shape"
                made[f"{name}_kwargs"] = {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}
            else:
                made[name] = "resample_torch_fornnunet"
                force = False if self.torch_resampling == "off" else None
                made[f"{name}_kwargs"] = {
                    "is_seg": is_seg, "force_separate_z": force, "memefficient_seg_resampling": False
                }  # fmt: skip
        return made


THICK = Scan(shape=(9, 30, 26), spacing=(5.0, 0.9, 0.8))
THIN = Scan(shape=(30, 18, 20), spacing=(1.0, 1.2, 1.1))
SMALL = Scan(shape=(7, 12, 11), spacing=(1.6, 1.5, 1.4))
TURNED = Scan(shape=(14, 22, 18), spacing=(1.2, 1.6, 1.3), direction=ROTATED)
CASES = (
    Case(name="resenc_ct", scans=(ISOTROPIC, SMALL), seed=1),
    Case(name="plain_ct", kind="PlainConvUNet", seed=2),
    Case(name="slices", dims=2, scans=(THICK, ISOTROPIC), seed=3),
    Case(name="slices_plain_zscore", dims=2, kind="PlainConvUNet", scheme="ZScoreNormalization", seed=4),
    Case(name="zscore_masked", scheme="ZScoreNormalization", masked=True, channels=2, seed=5),
    Case(name="rescaled", scheme="RescaleTo01Normalization", channels=2, seed=6),
    Case(name="as_they_are", scheme="NoNormalization", mirror_axes=None, seed=7),
    Case(name="thick_slices", scans=(THICK,), spacing=(3.0, 1.1, 1.0), seed=8),
    Case(name="thick_plan", scans=(THIN,), spacing=(4.0, 1.3, 1.2), seed=9),
    Case(name="torch_resampling", torch_resampling="off", scans=(THICK, ISOTROPIC), seed=10),
    Case(name="torch_resampling_thick", torch_resampling="auto", scans=(THICK,), spacing=(3.0, 1.1, 1.0), seed=11),
    Case(name="regions", labels=REGIONS, folds=(0, 1), seed=12),
    Case(name="ignored", labels={**LABELS, "ignore": 4}, mirror_axes=(0, 1), seed=13),
    Case(name="batch_norm", trainer="nnUNetTrainerBN", kind="PlainConvUNet", seed=14),
    Case(name="transposed", transpose=(1, 0, 2), scans=(TURNED,), spacing=(1.5, 1.2, 1.2), seed=15),
    Case(name="turned_readers", reader="SimpleITKIOWithReorient", transpose=(2, 0, 1), scans=(TURNED,), seed=16),
    Case(name="nibabel_reader", reader="NibabelIO", scans=(TURNED,), seed=23),
    Case(name="nibabel_turned_reader", reader="NibabelIOWithReorient", transpose=(2, 0, 1), scans=(TURNED,), seed=24),
    Case(name="stacks", reader="Tiff3DIO", ending=".tif", scheme="ZScoreNormalization", channels=2,
         scans=(ISOTROPIC, Scan(shape=(14, 17, 21), spacing=(1.0, 1.0, 1.0))), seed=25),
    Case(name="folds", folds=(0, 1), mirroring=False, step=0.8, seed=17),
    Case(name="all_data", folds=("all",), seed=18),
    Case(name="old_plans", old_plans=True, kind="PlainConvUNet", seed=19),
    Case(name="old_plans_resenc", old_plans=True, seed=20),
    Case(name="cascade", cascade=True, seed=21),
    Case(name="pictures", dims=2, reader="NaturalImage2DIO", ending=".png", scheme="RGBTo01Normalization",
         spacing=(1.0, 1.0, 1.0), scans=(Scan(shape=(40, 50), spacing=(1.0, 1.0)),), seed=22),
)  # fmt: skip
