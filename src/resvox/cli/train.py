"""The command `resvox train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resvox.catalog import TASKS
from resvox.cli.app import (
    DATA,
    LEARNING,
    MODEL,
    RUN,
    Debug,
    Device,
    DeviceOption,
    choices,
    examples,
    numbers,
    one_of,
    verb,
)
from resvox.cli.training_options import (
    Encoder,
    Minutes,
    NumNodes,
    Overwrite,
    PlanOnly,
    Precision,
    Processes,
    Profile,
    Resume,
    Seed,
    Spacing,
    Steps,
    Weights,
    WeightsPeer,
    Workers,
)
from resvox.workflow import (
    AUGMENT_ON,
    AUGMENTATIONS,
    NORMS,
    OPTIMIZERS,
    PRESETS,
    RECIPES,
    SCHEDULES,
    TrainOptions,
)

DEFAULTS = TrainOptions()
DEVICE = Device(DEFAULTS.device)
FOLDS = "Cross-validation"


@verb(
    examples(
        "resvox train Dataset001_Liver -o runs/liver",
        "resvox train scans.csv -o runs/liver --encoder resnet34 --minutes 120",
        "resvox train Dataset001_Liver -o runs/liver --weights resnet50.pth --frozen-stages 2",
        "resvox train Dataset001_Liver -o runs/liver --weights hf://owner/liver-ct",
        "resvox train Dataset001_Liver -o runs/liver --recipe nnunet --preset L",
        "resvox train Dataset001_Liver -o runs/liver --optimizer sgd --deep-supervision --ema 0.999",
        "resvox train Dataset001_Liver -o runs/liver --plan-only",
        "resvox train Dataset001_Liver -o runs/liver --plan runs/liver/plan.yaml",
        "resvox train Dataset001_Liver -o runs/liver --resume",
        "resvox train Dataset001_Liver -o runs/liver --folds 5",
        "resvox train Dataset001_Liver -o runs/liver --folds 5 --fold $SLURM_ARRAY_TASK_ID",
        "srun resvox train Dataset001_Liver -o runs/liver --num-nodes 2 --processes 8",
        "resvox train digits.npz -o runs/digits --task classification",
        "resvox train Dataset002_Dose -o runs/dose --task regression --model resnet18_3d",
    )
)
def train(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET",
            help="Folder with dataset.json (MSD, nnU-Net), or a CSV manifest; folders of classes, or an .npz.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    task: Annotated[
        str | None,
        typer.Option(
            parser=one_of(TASKS),
            metavar=choices(TASKS),
            help="What is learned (default: the plan's, or segmentation).",
            rich_help_panel=MODEL,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="See resvox models --task (default: unet, or resnet18 for classes).", rich_help_panel=MODEL),
    ] = None,
    encoder: Encoder = None,
    norm: Annotated[
        str | None,
        typer.Option(
            parser=one_of(NORMS),
            metavar=choices(NORMS),
            help="Normalization in the network (default: the plan's: batch; of nnunet instance).",
            rich_help_panel=MODEL,
        ),
    ] = None,
    weights: Weights = None,
    weights_peer: WeightsPeer = None,
    frozen_stages: Annotated[
        int | None,
        typer.Option(min=0, max=5, help="Of stem and four stages, these learn nothing.", rich_help_panel=MODEL),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help="How much slower a stage learns than the next.", rich_help_panel=MODEL),
    ] = None,
    patch_size: Annotated[
        Any,
        typer.Option(
            parser=numbers(int),
            metavar="D,H,W",
            help="Voxels of a patch, or of a whole image for classes.",
            rich_help_panel=DATA,
        ),
    ] = None,
    spacing: Spacing = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Patches or images per step.", rich_help_panel=DATA)
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(
            parser=one_of(AUGMENTATIONS),
            metavar=choices(AUGMENTATIONS),
            help="How much samples are changed (default: default).",
            rich_help_panel=DATA,
        ),
    ] = None,
    oversample: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Share of patches centred on a label (default: 0.5).", rich_help_panel=DATA
        ),
    ] = None,
    channel_dropout: Annotated[
        float | None, typer.Option(min=0.0, max=0.99, help="Chance that a channel is set to 0.", rich_help_panel=DATA)
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            parser=one_of(RECIPES),
            metavar=choices(RECIPES),
            help="Whose rules make the plan.",
            rich_help_panel=LEARNING,
        ),
    ] = DEFAULTS.recipe,
    preset: Annotated[
        str | None,
        typer.Option(
            parser=one_of(PRESETS),
            metavar=choices(PRESETS),
            help="Of nnunet: its planner for 8, 24 or 40 GB.",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    memory_gb: Annotated[
        float | None, typer.Option(min=0.1, help="Of nnunet: the memory to plan for.", rich_help_panel=LEARNING)
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            parser=one_of(OPTIMIZERS),
            metavar=choices(OPTIMIZERS),
            help="The optimizer (default: adamw).",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            parser=one_of(SCHEDULES),
            metavar=choices(SCHEDULES),
            help="How the learning rate falls (default: poly).",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    deep_supervision: Annotated[
        bool | None,
        typer.Option(
            "--deep-supervision/--no-deep-supervision", help="Learn from coarser levels too.", rich_help_panel=LEARNING
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=0.99999, help="Average the weights with this decay, such as 0.999.", rich_help_panel=LEARNING
        ),
    ] = None,
    batch_dice: Annotated[
        bool | None,
        typer.Option(
            "--batch-dice/--no-batch-dice", help="Dice of the batch, or of each patch.", rich_help_panel=LEARNING
        ),
    ] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option(min=0.0, max=0.99, help="Certainty spread over all labels or classes.", rich_help_panel=LEARNING),
    ] = None,
    class_weights: Annotated[
        bool | None,
        typer.Option(
            "--class-weights/--no-class-weights", help="Classes: weigh rare ones more.", rich_help_panel=LEARNING
        ),
    ] = None,
    balanced: Annotated[
        bool | None,
        typer.Option("--balanced/--no-balanced", help="Classes: show each equally often.", rich_help_panel=LEARNING),
    ] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    plan: Annotated[
        Path | None, typer.Option(help="Use this plan.yaml, not one made from the data.", rich_help_panel=RUN)
    ] = None,
    plan_only: PlanOnly = DEFAULTS.plan_only,
    resume: Resume = DEFAULTS.resume,
    overwrite: Overwrite = DEFAULTS.overwrite,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="Train no further: write the model of a stopped run's best weights.", rich_help_panel=RUN
        ),
    ] = DEFAULTS.finish,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Cross-validation with so many folds, RUN/fold_0 and on.", rich_help_panel=FOLDS),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(min=0, help="Train this fold alone, counted from 0: one per job.", rich_help_panel=FOLDS),
    ] = None,
    folds_at_once: Annotated[
        int, typer.Option(min=1, help="Folds that train at a time, one per GPU.", rich_help_panel=FOLDS)
    ] = DEFAULTS.folds_at_once,
    device: DeviceOption = DEVICE,
    processes: Processes = DEFAULTS.processes,
    num_nodes: NumNodes = DEFAULTS.num_nodes,
    precision: Precision = None,
    seed: Seed = None,
    workers: Workers = DEFAULTS.workers,
    augment_on: Annotated[
        str,
        typer.Option(
            parser=one_of(AUGMENT_ON),
            metavar=choices(AUGMENT_ON),
            help="Where patches are augmented; auto: on a GPU.",
            rich_help_panel=RUN,
        ),
    ] = DEFAULTS.augment_on,
    profile: Profile = DEFAULTS.profile,
    debug: Debug = False,
) -> None:
    """Train a model: for label maps, for the class of a whole image, or for a volume of values.

    Reads the dataset, makes a plan from what the data are like, shows it and trains. RUN/model.safetensors holds the
    network, its weights, the preprocessing and the labels.
    """
    from resvox import workflow
    from resvox.cli.printers import train as output

    options = TrainOptions(
        task=task,
        model=model,
        encoder=encoder,
        norm=norm,
        weights=weights,
        weights_peer=weights_peer,
        frozen_stages=frozen_stages,
        layer_decay=layer_decay,
        recipe=recipe,
        preset=preset,
        memory_gb=memory_gb,
        optimizer=optimizer,
        schedule=schedule,
        deep_supervision=deep_supervision,
        ema=ema,
        augmentation=augmentation,
        oversample=oversample,
        batch_dice=batch_dice,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        balanced=balanced,
        channel_dropout=channel_dropout,
        steps=steps,
        minutes=minutes,
        patch_size=patch_size,
        spacing_mm=spacing,
        batch_size=batch_size,
        plan=plan,
        plan_only=plan_only,
        resume=resume,
        overwrite=overwrite,
        finish=finish,
        folds=folds,
        fold=fold,
        folds_at_once=folds_at_once,
        device=device.value,
        processes=processes,
        num_nodes=num_nodes,
        precision=precision.value if precision else None,
        seed=seed,
        workers=workers,
        augment_on=augment_on,
        profile=profile,
    )
    output.show_trained(workflow.train(dataset, out, options=options, on_plan=output.show_plan), dataset)
