"""One function per command; the command line calls these and nothing else.

Importing this is cheap: what a verb needs is loaded when it is called.
"""

from resvox.evaluation.further.table import FURTHER
from resvox.prediction.outcomes import CaseOutcome, PredictResult
from resvox.training.plans.fields import AUGMENT_ON, AUGMENTATIONS, NORMS, OPTIMIZERS, SCHEDULES
from resvox.training.plans.options import TrainOptions
from resvox.training.plans.precision import Precision as TrainPrecision
from resvox.training.plans.recipe import PRESETS, RECIPES
from resvox.workflow.compare import CompareResult, compare
from resvox.workflow.convert import ConvertResult, convert
from resvox.workflow.convert_labels import ConvertLabelsResult, convert_labels
from resvox.workflow.demo.result import DemoResult
from resvox.workflow.demo.run import demo
from resvox.workflow.evaluate import EvaluateResult, evaluate
from resvox.workflow.export import ExportResult, export
from resvox.workflow.predict import predict
from resvox.workflow.pretrain import PretrainResult, pretrain
from resvox.workflow.publish import PublishResult, publish
from resvox.workflow.serve import serve
from resvox.workflow.show import show_model
from resvox.workflow.status import status
from resvox.workflow.train import train
from resvox.workflow.view import ViewResult, view

__all__ = [
    "AUGMENTATIONS",
    "AUGMENT_ON",
    "FURTHER",
    "NORMS",
    "OPTIMIZERS",
    "PRESETS",
    "RECIPES",
    "SCHEDULES",
    "CaseOutcome",
    "CompareResult",
    "ConvertLabelsResult",
    "ConvertResult",
    "DemoResult",
    "EvaluateResult",
    "ExportResult",
    "PredictResult",
    "PretrainResult",
    "PublishResult",
    "TrainOptions",
    "TrainPrecision",
    "ViewResult",
    "compare",
    "convert",
    "convert_labels",
    "demo",
    "evaluate",
    "export",
    "predict",
    "pretrain",
    "publish",
    "serve",
    "show_model",
    "status",
    "train",
    "view",
]
