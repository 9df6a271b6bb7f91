"""A trained model to a hub, with a model card."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import WeightsError

if TYPE_CHECKING:
    from resvox.hub.readme import ModelDescription
    from resvox.prediction.model_files import ModelFile

ORIGIN = "weights_from"  # in the metadata: the file that the training began from


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """What was published, or would be.

    Attributes:
        address: of the model on the hub.
        files: names in the repository.
        readme: the text of the model card.
        commit, url: of the commit; None for a rehearsal.
        kept_readme: the README that was in the repository is kept.
    """

    address: str
    files: tuple[str, ...]
    readme: str
    commit: str | None = None
    url: str | None = None
    kept_readme: bool = False


def publish(
    run: str | os.PathLike[str],
    to: str,
    *,
    licence: str,
    data: str = "",
    private: bool = False,
    new_readme: bool = False,
    dry_run: bool = False,
) -> PublishResult:
    """Publish a model: its file (or the files of all folds) and a model card, in one commit.

    Paths of this machine are taken out of the file's metadata. Scans and names of cases are not part of it. The token
    is that of ``huggingface_hub``: ``HF_TOKEN``, or the one of ``hf auth login``.

    Args:
        run: the folder of a run, a ``model.safetensors``, or a folder of folds.
        to: ``hf://owner/name`` or ``hf://owner/name@branch``.
        licence: the identifier of the model's licence, such as "apache-2.0" or "cc-by-nc-4.0".
        data: what the model was trained on, for the model card.
        private: make a new repository private.
        new_readme: replace a README that is in the repository.
        dry_run: check and describe all of it, and send nothing.

    Raises:
        WeightsError: no model, one without labels and preprocessing, a licence that is not known, no right to write.
    """
    from resvox.hub.address import HubAddress
    from resvox.hub.licences import licence_identifier
    from resvox.hub.publishing import publish_files
    from resvox.hub.readme import model_card
    from resvox.prediction.model_files import model_files

    address = HubAddress.parse(to)
    if address.inside:
        raise WeightsError(f"--to {to}", expected="hf://owner/name", fix=f"--to hf://{address.repository}")
    name = licence_identifier(licence)
    files = model_files(run)
    named = _names(files, Path(run))
    description = describe_models(files)
    text = model_card(description, address, licence=name, data=data)
    if dry_run:
        return PublishResult(address=str(address), files=(*named, "README.md"), readme=text)
    with tempfile.TemporaryDirectory() as folder:
        cleaned = {each: _without_paths(file, Path(folder) / each) for each, file in named.items()}
        message = f"Publish {description.network} for {description.task}"
        done = publish_files(address, cleaned, text, message=message, private=private, new_readme=new_readme)
    return PublishResult(
        address=str(address),
        files=(*named, *(() if done.kept_readme else ("README.md",))),
        readme=text,
        commit=done.commit,
        url=done.url,
        kept_readme=done.kept_readme,
    )


def describe_models(files: Sequence[ModelFile]) -> ModelDescription:
    """What the model card of networks that are averaged is written from.

    Raises:
        WeightsError: an exported network, or a damaged file.
    """
    from resvox.hub.readme import ModelDescription
    from resvox.weights import load_model, read_header

    for file in files:
        if file.format != "resvox":
            raise WeightsError(f"an exported network ({file.format})", expected="a model.safetensors", path=file.path)
        load_model(file.path)  # a damaged file is not published
    first, card = files[0], files[0].card
    prepared = first.preprocessing()
    own = card.own_fields()
    blueprint = read_header(first.path).blueprint
    return ModelDescription(
        task=card.task,
        network=blueprint.name,
        parameters=blueprint.parameters,
        folds=len(files),
        channel_names=card.channel_names,
        spatial_dims=card.spatial_dims,
        input_size=card.input_size,
        preprocessing={"orientation": prepared.orientation, "spacing_mm": prepared.spacing_mm},
        labels=own.get("labels", {}),
        regions=own.get("regions", {}),
        target_names=tuple(own.get("target_names", ())),
        training=card.training or {},
    )


def _names(files: Sequence[ModelFile], run: Path) -> Mapping[str, ModelFile]:
    """Model files by their names in the repository: one is ``model.safetensors``, folds keep their folders."""
    if len(files) == 1:
        return {"model.safetensors": files[0]}
    return {file.path.relative_to(run).as_posix(): file for file in files}


def _without_paths(file: ModelFile, target: Path) -> Path:
    """The model file itself, or a copy whose metadata names the file that training began from without its folders."""
    origin = file.metadata.get(ORIGIN)
    source = str(origin.get("source", "")) if isinstance(origin, Mapping) else ""
    if source.startswith("hf://") or not set(source) & set("/\\"):
        return file.path
    from resvox.weights import read_header
    from resvox.weights.formats.safetensors import read_tensors, write_file

    blueprint = read_header(file.path).blueprint
    short: dict[str, Any] = {**dict(origin or {}), "source": source.replace("\\", "/").rsplit("/", 1)[-1]}
    return write_file(target, read_tensors(file.path, blueprint), blueprint, {**file.metadata, ORIGIN: short})
