"""Every row scripts, and a script that was saved and loaded gives the same numbers."""

import gc
import io

import pytest
import torch
from laws.networks import RESIDUAL, ROWS, SEGMENTATION, ids, outputs, thin

from resvox.catalog import get_blueprint
from resvox.torch import build

SIZES = {2: [(40, 33), (1, 1)], 3: [(9, 18, 20), (1, 1, 1)]}


@pytest.fixture(autouse=True, scope="module")
def _table_of_live_builtins():
    """PyTorch recognises builtins by `id` and keeps the ids of operators that exporters have removed.

    An attribute of a module that gets the address of such an operator is then taken for a builtin, and scripting fails
    by chance. Entries of objects that no longer exist are removed.
    """
    table = torch.jit._builtins._get_builtin_table()
    alive = {id(each) for each in gc.get_objects()} | {id(builtin) for builtin, _ in torch.jit._builtins._builtin_ops}
    for key in table.keys() - alive:
        del table[key]


def check_script(model, sizes, channels=3):
    """The scripted model, written and read again, answers as the eager one does."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for size in sizes:
        x = torch.randn(2, channels, *size)
        with torch.no_grad():
            for ours, theirs in zip(outputs(model(x)), outputs(loaded(x)), strict=True):
                assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("name", "dims"), ROWS)
def test_every_row_scripts(name, dims):
    check_script(thin(name, dims), SIZES[dims])


@pytest.mark.parametrize(("name", "options"), SEGMENTATION, ids=ids)
def test_every_way_of_a_unet_scripts(name, options):
    check_script(thin(name, 3, **options), SIZES[3])


OPTIONS = [
    ("resnet18", {"shortcut": "zero_pad", "drop_path": 0.2, "norm": "instance"}),
    ("resnet50v2", {"stem": "deep", "se_ratio": 8, "norm": "group", "shortcut": "zero_pad"}),
    ("resnet18vd", {"strides": (2, 1, 2, 1, 2), "output_stride": 8, "activation": "gelu"}),
    ("resnet18", {"num_classes": 0}),
    ("resnet18", {"output_activation": "softmax", "activation": ("elu", {"alpha": 0.5})}),
    ("resnet26", {"features_only": True, "encoder_depth": 3, "num_classes": None}),
    ("resnet18v2", {"features_only": True, "num_classes": None}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=ids)
def test_options_script(name, options):
    check_script(thin(name, 2, **options), SIZES[2])


def test_a_script_in_training_learns_the_same_statistics():
    eager, scripted = thin("resnet18", 2).train(), torch.jit.script(thin("resnet18", 2).train())
    x = torch.randn(2, 3, 64, 64)
    eager(x), scripted(x)
    for name, value in eager.state_dict().items():
        assert torch.equal(value, scripted.state_dict()[name]), name


class Drift(torch.nn.Module):
    """Eager and scripted take different ways."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if torch.jit.is_scripting() else x


def test_a_script_that_answers_otherwise_is_seen():
    model = thin("resnet18", 2)
    model.act1 = Drift()
    with pytest.raises(AssertionError):
        check_script(model, SIZES[2])


@pytest.mark.laws
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", RESIDUAL)
def test_every_row_scripts_at_full_size(name, dims):
    check_script(build(get_blueprint(name, spatial_dims=dims)).eval(), SIZES[dims])
