"""The options of a training: each with its default, here and nowhere else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError
from resvox.training.plans.fields import AUGMENT_ON
from resvox.training.plans.recipe import DEFAULT_RECIPE, Recipe

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan

# options that are fields of a plan, and the names they have there
PLAN_FIELDS = {
    "model": "model", "encoder": "encoder", "norm": "norm", "steps": "steps", "minutes": "max_minutes",
    "patch_size": "patch_size", "spacing_mm": "spacing_mm", "batch_size": "batch_size", "precision": "precision",
    "seed": "seed", "weights": "weights", "weights_peer": "weights_peer", "frozen_stages": "frozen_stages",
    "layer_decay": "layer_decay", "optimizer": "optimizer", "schedule": "decay", "deep_supervision": "deep_supervision",
    "ema": "ema_decay", "augmentation": "augmentation", "oversample": "foreground_fraction", "batch_dice": "batch_dice",
    "label_smoothing": "label_smoothing", "channel_dropout": "channel_dropout",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `resvox.workflow.train` and ``resvox train`` can be asked for; None leaves a decision to the plan.

    Args:
        task: "segmentation", "classification" or "regression"; None takes the plan's, else segmentation.
        model, encoder: names of `resvox.list_models(task=...)` and, for those that take one, of a backbone.
        norm: of the network: "batch", "instance" or "group"; that of weights to begin from cannot be changed.
        steps, minutes: when to stop, whichever comes first.
        patch_size: voxels (D, H, W), for classes the size of the whole image.
        spacing_mm: target spacing (D, H, W).
        batch_size: patches or images per step.
        weights: a file or ``hf://owner/name`` to begin from, of resvox or of a peer: the plan's network is chosen to
            fit them.
        weights_peer: whose weights they are, where their names do not say.
        frozen_stages: how many of stem and four residual stages learn nothing.
        layer_decay: how much slower each stage learns than the one behind it.
        recipe: whose rules make the plan: "resvox", or "nnunet" for label maps: its planner and trainer.
        preset: of the recipe "nnunet": "M", "L" or "XL", its planners for residual encoders.
        memory_gb: of the recipe "nnunet": the memory to plan for; that of the preset (8, 24, 40) if not given.
        optimizer: "adamw" or "sgd", with Nesterov momentum; a plan made for it has its learning rate.
        schedule: how the learning rate falls: "poly" (power 0.9), "cosine" or "constant".
        deep_supervision: learn from coarser levels too, where the model can.
        ema: decay of a moving average of the weights, which is validated and saved; 0 for none.
        augmentation: "none", "light", "default" or "nnunet".
        oversample: share of the patches that are centred on a labelled voxel.
        batch_dice: Dice of the batch as a whole, or (False) the mean over its patches.
        label_smoothing: share of the certainty that is spread over all labels or classes.
        class_weights: of a classification: weigh cases by how rare their class is; False does not, however rare.
        balanced: of a classification: show every class equally often.
        channel_dropout: chance that a channel of a sample is set to 0.
        plan: a plan or its YAML file, instead of one made from the data; other options change it.
        plan_only: write ``out/plan.yaml`` for editing and stop there.
        resume: continue from the last checkpoint of the run.
        overwrite: start again where a run is; with ``fold`` that fold alone.
        finish: train no further: write the model of the best weights of a stopped run.
        folds: cross-validation: train this many networks, each without the cases of its fold, in ``out/fold_0`` and so
            on; predict and score every case out of fold. None takes that of the run that is resumed, else trains one.
        fold: train this fold alone, such as one per job of a cluster; the last one does what remains.
        folds_at_once: how many folds train at a time, each in a process of its own.
        device: "auto", "cpu" or "cuda".
        processes: how many train together on this machine (GPUs, or CPU processes).
        num_nodes: machines that train together: torchrun or srun starts the command on each.
        precision: "auto", "32-true", "bf16-mixed" or "16-mixed".
        seed: all randomness follows from it.
        workers: processes that cut patches, for each process that trains, or "auto". None: "auto" on a GPU, else 0.
        augment_on: "processor" or "device": where patches are augmented. "auto": on the device where that is a GPU.
        profile: measure where the time goes.
        progress: show a bar or lines.

    Raises:
        PlanError: a number of processes or workers that is out of range, or another word for ``augment_on``.
    """

    task: str | None = None
    model: str | None = None
    encoder: str | None = None
    norm: str | None = None
    steps: int | None = None
    minutes: float | None = None
    patch_size: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    batch_size: int | None = None
    weights: str | os.PathLike[str] | None = None
    weights_peer: str | None = None
    frozen_stages: int | None = None
    layer_decay: float | None = None
    recipe: str = DEFAULT_RECIPE
    preset: str | None = None
    memory_gb: float | None = None
    optimizer: str | None = None
    schedule: str | None = None
    deep_supervision: bool | None = None
    ema: float | None = None
    augmentation: str | None = None
    oversample: float | None = None
    batch_dice: bool | None = None
    label_smoothing: float | None = None
    class_weights: bool | None = None
    balanced: bool | None = None
    channel_dropout: float | None = None
    plan: str | os.PathLike[str] | TrainingPlan | None = None
    plan_only: bool = False
    resume: bool = False
    overwrite: bool = False
    finish: bool = False
    folds: int | None = None
    fold: int | None = None
    folds_at_once: int = 1
    device: str = "auto"
    processes: int = 1
    num_nodes: int = 1
    precision: str | None = None
    seed: int | None = None
    workers: int | str | None = None
    augment_on: str = "auto"
    profile: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("patch_size", "spacing_mm"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.weights is not None:
            object.__setattr__(self, "weights", os.path.expanduser(self.weights))
        for name, least in (
            ("processes", 1),
            ("num_nodes", 1),
            ("workers", 0),
            ("folds_at_once", 1),
            ("folds", 2),
            ("fold", 0),
        ):
            value = getattr(self, name)
            if value is not None and (name, value) != ("workers", "auto") and value < least:
                raise PlanError(f"{name}={value}", expected=f"at least {least}")
        if self.augment_on not in AUGMENT_ON:
            raise PlanError(f"augment_on={self.augment_on!r}", expected=f"one of {', '.join(AUGMENT_ON)}")

    @property
    def plan_recipe(self) -> Recipe:
        """The recipe with what it was given.

        Raises:
            PlanError: an unknown name, or options of another recipe.
        """
        return Recipe(name=self.recipe, preset=self.preset, memory_gb=self.memory_gb)

    def plan_fields(self) -> dict[str, Any]:
        """The options that were given and are fields of a plan, under the plan's names."""
        given = {field: getattr(self, name) for name, field in PLAN_FIELDS.items()}
        given["class_balance"] = self._class_balance()
        return {field: value for field, value in given.items() if value is not None}

    def _class_balance(self) -> str | None:
        if self.class_weights and self.balanced:
            raise PlanError(
                "class_weights and balanced at once",
                expected="one of them",
                fix="leave --class-weights or --balanced out",
            )
        if self.class_weights:
            return "weights"
        if self.balanced:
            return "sampling"
        return None if self.class_weights is None and self.balanced is None else "none"
