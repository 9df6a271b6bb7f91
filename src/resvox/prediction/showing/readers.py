"""Descriptions of the kinds of sources; each reads headers and names, and runs no code of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resvox.errors import WeightsError
from resvox.prediction.model_files import MODEL_NAME, ModelFile, format_of, metadata_of, model_files, read_model_file
from resvox.prediction.showing.description import Description, card_facts, network_facts

IN_CHECKPOINTS = ("version", "plan", "progress")
NOT_PREDICTED = "resvox predict does not take it"
UNKNOWN = ""  # path and kind, which the table of kinds fills in


def nnunet(path: Path) -> Description:
    """A model folder of nnU-Net, or its zip."""
    from resvox.prediction.nnunet.files import nnunet_files
    from resvox.prediction.options import CHECKPOINT
    from resvox.weights.nnunet import NnunetFolder, nnunet_blueprint

    files = nnunet_files(path, _folds(path), CHECKPOINT)
    checkpoint = files[0].path
    folder = NnunetFolder.read(checkpoint.parent.parent, folds=(checkpoint.parent.name.removeprefix("fold_"),))
    blueprint = nnunet_blueprint(folder, folder.read_fold(next(iter(folder.checkpoints))))
    stated = json.loads((folder.path / "dataset.json").read_text(encoding="utf-8"))
    facts = {**card_facts(files[0].card), **network_facts(blueprint, folder.configuration.network.options())}
    facts["licence"] = stated.get("licence") or stated.get("license") or None
    return _described(files, facts)


def _folds(path: Path) -> tuple[str, ...] | None:
    """``("all",)`` where there are no numbered folds."""
    if path.is_dir():
        names = {each.name for each in path.rglob("fold_*")}
        return ("all",) if names == {"fold_all"} else None
    return None


def bundle(path: Path) -> Description:
    """A bundle of MONAI, or its zip; one that cannot be predicted with by its network and the reason."""
    from resvox.prediction.bundle.cards import card_of
    from resvox.weights.bundle.folder import Bundle
    from resvox.weights.bundle.network import read_bundle_network

    found = Bundle.read(path)
    network = read_bundle_network(found)
    facts = network_facts(network.blueprint, dict(network.options))
    files = (network.weights.relative_to(found.path).as_posix(),)
    licence = "see LICENSE in the bundle" if (found.path / "LICENSE").is_file() else None
    try:
        stated = card_facts(card_of(found))
    except WeightsError as error:
        return Description(path=UNKNOWN, kind=UNKNOWN, files=files, **facts, note=f"{NOT_PREDICTED}: {error}")
    return Description(
        path=UNKNOWN, kind=UNKNOWN, files=files, **{**facts, **stated, "licence": stated["licence"] or licence}
    )


def run(path: Path) -> Description:
    """A run that has a model, or a folder of such runs."""
    return _of_files(model_files(path))


def unfinished_run(path: Path) -> Description:
    """A run without a model: its plan."""
    from resvox.training.plans.reading import load_plan

    plan = path / "plan.yaml"
    note = f"no {MODEL_NAME} yet: finish it with resvox train ... --resume"
    if not plan.is_file():
        return Description(path=UNKNOWN, kind=UNKNOWN, note=note)
    return Description(path=UNKNOWN, kind=UNKNOWN, training={"plan": load_plan(plan).to_dict()}, note=note)


def exported(path: Path) -> Description:
    """An exported network, by the description beside it; the network itself is not loaded."""
    file = read_model_file(path)
    facts = card_facts(file.card)
    return Description(path=UNKNOWN, kind=UNKNOWN, files=(path.name,), **facts, note=f"format {file.format}")


def is_of_resvox(path: Path) -> bool:
    """Whether a ``.safetensors`` has a blueprint in its header; true for damaged ones of which that is not known."""
    from resvox.weights.formats.safetensors import raw_header

    try:
        words = raw_header(path).get("__metadata__")
    except WeightsError:
        return True
    return isinstance(words, dict) and "blueprint" in words


def model_file(path: Path) -> Description:
    """A model file of resvox; one of a bare network without a card, too."""
    from resvox.weights import read_header

    header = read_header(path)
    if header.metadata.get("preprocessing") is not None and "inference" in header.metadata:
        return _of_files([read_model_file(path)])
    origin = header.metadata.get("weights_from") or {}
    return Description(
        path=UNKNOWN,
        kind=UNKNOWN,
        files=(path.name,),
        **network_facts(header.blueprint),
        training=dict(origin) if isinstance(origin, Mapping) else None,
        note=f"the network alone, without preprocessing and labels: {NOT_PREDICTED}",
    )


def is_checkpoint(path: Path) -> bool:
    """Whether a ``.pt`` is a checkpoint of a training run, by the names in it."""
    from resvox.weights.formats.pickled import read_pickled

    try:
        content = read_pickled(path, plain=("version", "progress"))
    except WeightsError:
        return False
    return isinstance(content, dict) and isinstance(content.get("progress"), dict) and "plan" in content


def checkpoint(path: Path) -> Description:
    """A checkpoint of a run: how far it came, and its plan."""
    from resvox.weights.formats.pickled import read_pickled

    content = read_pickled(path, plain=IN_CHECKPOINTS)
    progress, plan = content["progress"], content.get("plan")
    model = content.get("model")
    sizes = [each.size for each in model.values()] if isinstance(model, dict) else []
    return Description(
        path=UNKNOWN,
        kind=UNKNOWN,
        files=(path.name,),
        network=str(plan["model"]) if isinstance(plan, dict) and "model" in plan else None,
        task=str(plan["task"]) if isinstance(plan, dict) and "task" in plan else None,
        training={"plan": plan, "progress": progress},
        scores=progress.get("best") if isinstance(progress.get("best"), Mapping) else None,
        note=f"{sum(sizes)} numbers in {len(sizes)} tensors; go on with resvox train ... --resume",
    )


def weights(path: Path) -> Description:
    """Weights of another library, or of a network alone, by the names and shapes of their tensors."""
    from resvox.weights.naming import name_source
    from resvox.weights.sources import read_source

    source = read_source(path)
    named = name_source(source, None, None)
    origin: dict[str, Any] = {"library": named.peer, "tensors": len(named.tensors)}
    if named.unknown:
        origin["tensors that are not recognised"] = len(named.unknown)
    note = f"weights alone: {NOT_PREDICTED}; load them with resvox.create_model_from"
    if not named.blueprints:
        return Description(
            path=UNKNOWN, kind=UNKNOWN, files=(path.name,), training=origin, note=f"{note}; {named.unclear}"
        )
    return Description(
        path=UNKNOWN, kind=UNKNOWN, files=(path.name,), **network_facts(named.blueprints[0]), training=origin, note=note
    )


def _of_files(files: list[ModelFile]) -> Description:
    """Model files of resvox whose outputs are averaged."""
    from resvox.weights import read_header

    first = files[0]
    facts = card_facts(first.card)
    if format_of(first.path) == "resvox":
        facts = {**network_facts(read_header(first.path).blueprint), **facts}
    licence = metadata_of(first.path).get("licence")
    return _described(files, {**facts, "licence": facts["licence"] or (str(licence) if licence else None)})


def _described(files: list[ModelFile], facts: Mapping[str, Any]) -> Description:
    names = tuple(f"{each.path.parent.name}/{each.path.name}" for each in files)
    return Description(path=UNKNOWN, kind=UNKNOWN, files=names, **facts)
