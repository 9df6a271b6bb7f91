"""Where the gate of a block stands, and how it rounds: both are choices that reach every block."""

import pytest
import torch

import resvox
from resvox.blueprint.blocks import SqueezeExcitation
from resvox.errors import BlueprintError

THIN = {"widths": (8, 16, 24, 32), "stem_width": 8, "num_classes": 3, "in_channels": 1}


def gates(name, **options):
    def nodes(node):
        yield node
        for _, child in node.children():
            yield from nodes(child)

    network = resvox.get_blueprint(name, num_classes=3, **options).network
    return [node for node in nodes(network) if isinstance(node, SqueezeExcitation)]


@pytest.mark.parametrize(("name", "norm"), [("seresnet18", "bn2"), ("seresnet50", "bn3")])
@pytest.mark.parametrize("placement", ["after_norm", "before_norm"])
def test_the_gate_stands_where_it_is_told_in_every_block(name, norm, placement):
    model = resvox.create_model(name, **THIN, se_placement=placement).eval()
    order = []
    for path, module in model.named_modules():
        if path.rpartition(".")[2] in (norm, "se"):
            module.register_forward_hook(lambda m, i, o, path=path: order.append(path))
    model(torch.randn(2, 1, 9, 8))
    blocks = [path.rpartition(".")[0] for path in order[::2]]
    assert blocks == [path.rpartition(".")[0] for path in order[1::2]]
    assert len(blocks) == len(gates(name))
    last = ["se", norm] if placement == "before_norm" else [norm, "se"]
    assert [path.rpartition(".")[2] for path in order] == last * len(blocks)
    rows = [row.name for stage in model.blueprint.stages((9, 8)) for row in stage.walk() if row.name in order]
    assert rows == order


def test_the_two_placements_differ_and_both_script():
    x = torch.randn(2, 1, 9, 8)
    answers = []
    for placement in ("after_norm", "before_norm"):
        torch.manual_seed(0)
        model = resvox.create_model("seresnet50", **THIN, se_placement=placement)
        model.train()(x)  # running statistics away from 0 and 1, or the order would not matter
        answers.append(model.eval()(x))
        assert torch.equal(torch.jit.script(model)(x), answers[-1])
    assert not torch.allclose(*answers)


def test_inner_channels_round_to_eights_or_down():
    assert [gate.fc1.out_channels for gate in gates("seresnet18")[::2]] == [8, 8, 16, 32]
    assert [gate.fc1.out_channels for gate in gates("seresnet18", se_rounding="floor")[::2]] == [4, 8, 16, 32]
    assert gates("seresnet18", se_rounding="floor", se_ratio=100)[0].fc1.out_channels == 1
    assert gates("seresnet50", se_ratio=9)[0].fc1.out_channels == 32  # 28.4


def test_a_unet_hands_both_to_its_encoder():
    blueprint = resvox.get_blueprint("unet", encoder_name="seresnet18", se_placement="before_norm", se_rounding="floor")
    block = blueprint.network.encoder.layer1.items[0]
    assert block.se_before_norm
    assert block.se.fc1.out_channels == 4


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("seresnet18", {"se_placement": "first"}, "se_placement='first'; expected 'after_norm' or 'before_norm'"),
        ("seresnet18", {"se_rounding": 8}, "se_rounding=8; expected 'multiple_of_8' or 'floor'"),
        ("resnet18", {"se_rounding": "floor"}, "se_rounding='floor' without squeeze and excitation"),
        (
            "resnet18v2",
            {"se_ratio": 4, "se_placement": "before_norm"},
            "se_placement='before_norm' with pre-activation",
        ),
    ],
)
def test_what_cannot_be_is_refused(name, options, text):
    with pytest.raises(BlueprintError) as caught:
        resvox.get_blueprint(name, **options)
    assert str(caught.value).startswith(text)
