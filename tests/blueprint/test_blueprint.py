import itertools

import pytest

from resvox.catalog import get_blueprint
from resvox.errors import BlueprintError


def thin(name="resnet18", **options):
    return get_blueprint(name, widths=(8, 16, 24, 32), stem_width=8, **options)


@pytest.mark.parametrize("size", [(5,), (5, 5, 5), (0, 5), (5, 5.0), (5, True), (-1, 5)])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(BlueprintError, match=r"expected 2 whole numbers of at least 1, \(H, W\)"):
        thin().stages(size)
    with pytest.raises(BlueprintError, match=r"expected 3 whole numbers of at least 1, \(D, H, W\)"):
        thin(spatial_dims=3).stages((4, 4))


def test_a_group_sums_its_rows():
    for name in ("resnet18", "resnet50v2", "resnet18vd", "seresnet50"):
        blueprint = thin(name)
        rows = blueprint.stages((33, 40))
        assert sum(row.parameters for row in rows) == blueprint.parameters
        assert sum(row.statistics for row in rows) == blueprint.statistics
        assert sum(row.flops for row in rows) == blueprint.flops((33, 40))
        for row in (each for top in rows for each in top.walk() if each.children):
            assert row.parameters == sum(child.parameters for child in row.children)
            assert row.flops == sum(child.flops for child in row.children)
            assert row.activations == sum(child.activations for child in row.children)


def test_rows_hand_their_shape_on():
    for name in ("resnet50", "resnet50v2", "resnet18vd"):
        rows = thin(name, spatial_dims=3).stages((9, 17, 33))
        for before, after in itertools.pairwise(rows):
            # the linear layer says (batch, features), without the ones that the mean leaves
            assert before.output_shape[: len(after.input_shape)] == after.input_shape


def test_the_field_and_stride_of_resnet18_by_hand():
    by_name = {row.name: row for top in thin().stages((64, 64)) for row in top.walk()}
    assert by_name["conv1"].receptive_field == (7, 7)
    assert by_name["maxpool"].receptive_field == (11, 11)
    assert by_name["layer1"].receptive_field == (43, 43)  # four 3x3 convolutions at stride 4: 11 + 4 * 2 * 4
    assert by_name["layer2"].receptive_field == (99, 99)  # 43 + 2 * 4 + 3 * 2 * 8
    assert [by_name[f"layer{n}"].stride[0] for n in (1, 2, 3, 4)] == [4, 8, 16, 32]


def test_a_task_or_rank_of_its_own_is_refused():
    network = thin().network
    from resvox.blueprint import Blueprint

    with pytest.raises(BlueprintError, match="task='detection'; expected one of classification, segmentation"):
        Blueprint(name="x", task="detection", spatial_dims=2, in_channels=3, num_classes=2, network=network)
