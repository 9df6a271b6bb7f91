"""What the options of a prediction mean for a model of nnU-Net, and that other models refuse them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resvox.errors import InferenceError
from resvox.inference.engines.table import AUTO
from resvox.prediction.model_files import NNUNET_FORMAT
from resvox.preprocessing import NnunetPreprocessing

if TYPE_CHECKING:
    from resvox.prediction.model_files import ModelFile
    from resvox.prediction.options import PredictOptions
    from resvox.preprocessing import AnyPreprocessing

OF_FOLDERS = ("folds", "checkpoint")
OF_MODELS = ("exact", "orientation")


def chosen_preprocessing(file: ModelFile, options: PredictOptions) -> AnyPreprocessing:
    """How scans are prepared, as the options want it.

    Raises:
        InferenceError: an option for models of nnU-Net with another model.
    """
    found = file.preprocessing()
    changed = options.changed()
    is_nnunet = isinstance(found, NnunetPreprocessing)
    wrong = [name for name in OF_MODELS if name in changed and not is_nnunet]
    wrong += [name for name in OF_FOLDERS if name in changed and file.format != NNUNET_FORMAT]
    if wrong:
        raise InferenceError(
            f"{wrong[0]}={changed[wrong[0]]!r} with a model that is no {'folder' if is_nnunet else 'model'} of nnU-Net",
            expected="a model folder of nnU-Net v2" + (", or a file that was converted from one" * (not is_nnunet)),
            fix=f"leave --{wrong[0].replace('_', '-')} out",
            path=file.path,
        )
    if options.postprocess and not any(getattr(file.card, name, None) for name in ("largest", "postprocessing")):
        raise InferenceError(
            "postprocess=True, with a model that has no post-processing",
            expected="one of resvox train --folds, or crossval_results_folds_.../postprocessing.json of nnU-Net",
            fix="leave --postprocess out",
            path=file.path,
        )
    if not isinstance(found, NnunetPreprocessing):
        return found
    return replace(found, exact=options.exact, orientation=options.orientation or found.orientation)


def engine_options(options: PredictOptions) -> PredictOptions:
    """The same options on the CPU, where nnU-Net computes in float32, if its own bits are asked for.

    Raises:
        InferenceError: another engine, or a way to labels that nnU-Net does not have.
    """
    if not options.exact:
        return options
    for name in ("engine", "precision", "resample", "speed", "skip_empty"):
        if name in options.changed() and getattr(options, name) != "float32":
            raise InferenceError(
                f"{name}={getattr(options, name)!r} with exact", expected="nnU-Net's own", fix=f"leave --{name} out"
            )
    device = "cpu" if options.device == AUTO else options.device
    return replace(options, device=device)
