"""What a query sees: the tokens that its mask allows, all where it allows none; and what the model does with it."""

import pytest
import torch
from torch import nn

import resvox
from resvox.blueprint import transformers as tf
from resvox.errors import BlueprintError
from resvox.torch.transformers import AttentionProduct, MaskVote, PositionEmbedding, to_map, to_tokens

THIN = {"widths": (8, 12, 16, 24), "stem_width": 8, "depths": (1, 1, 1, 1), "decoder_filters": (16, 12, 8, 8, 4)}
SMALL = {"num_vit_layers": 2, "num_heads": 4, "num_queries": 5, "embed_dim": 24, "mlp_dim": 32, **THIN}


def small(**options):
    torch.manual_seed(0)
    return resvox.create_model("trans_unet", in_channels=2, encoder_name="resnet10", **{**SMALL, **options}).eval()


@pytest.fixture
def product():
    return AttentionProduct(tf.AttentionProduct(channels=8, heads=2))


def test_a_blocked_token_changes_nothing_and_an_attended_one_does(product):
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 3, 8), torch.randn(1, 6, 8), torch.randn(1, 6, 8)
    allowed = torch.tensor([[[1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]]]).bool()
    before = product(query, key, value, allowed.float() - 0.5)
    for token in range(6):
        far = torch.zeros(1, 6, 8)
        far[0, token] = 5.0
        after = product(query, key + far, value - far, allowed.float() - 0.5)
        for row in range(3):
            sees = bool(allowed[0, row, token]) or row == 2  # the last query's whole row is blocked: it sees all
            assert torch.equal(after[0, row], before[0, row]) is not sees, (token, row)
    everything = product(query, key, value)
    assert torch.equal(before[0, 2], everything[0, 2])
    assert not torch.equal(before[0, 0], everything[0, 0])


def test_attention_is_pytorchs(product):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    allowed = torch.rand(2, 3, 6) > 0.4
    assert bool(allowed.any(2).all())
    heads = (x.unflatten(2, (2, 4)).transpose(1, 2) for x in (query, key, value))
    wanted = nn.functional.scaled_dot_product_attention(*heads, attn_mask=allowed.unsqueeze(1))
    torch.testing.assert_close(product(query, key, value, allowed.float() - 0.5), wanted.transpose(1, 2).flatten(2))


def test_a_level_blocks_the_voxels_under_the_tokens_that_a_mask_leaves_out():
    """A token covers its patch of the finer map; at odd sizes the last patch is cut, not moved."""
    level = small(encoder_depth=3, image_size=40).decoder.queries.levels[1]  # P1: a token covers 8 x 8 of its voxels
    level.norm = nn.Identity()  # a norm over the map would carry a change of one voxel to all
    torch.manual_seed(1)
    queries, skip = torch.randn(1, 5, 24), torch.randn(1, 8, 19, 17)
    masks = torch.full((1, 5, 3, 3), -1.0)
    masks[0, :, 0, 0], masks[0, :, 2, 1] = 0.0, 3.0  # a probability of one half is enough
    with torch.no_grad():
        before = level(queries, masks, skip)
        for place, attended in (((7, 7), True), ((16, 8), True), ((18, 15), True), ((8, 7), False), ((15, 8), False),
                                ((18, 16), False), ((0, 8), False)):  # fmt: skip
            changed = skip.clone()
            changed[0, :, place[0], place[1]] += 3.0
            assert torch.equal(level(queries, masks, changed), before) is not attended, place
        nothing = level(queries, torch.full((1, 5, 3, 3), -1.0), skip)
        everything = level(queries, torch.full((1, 5, 3, 3), 1.0), skip)
    assert torch.equal(nothing, everything)


def test_an_inverted_mask_is_seen():
    level = small(encoder_depth=3, image_size=40).decoder.queries.levels[1]
    level.norm = nn.Identity()
    level.attn.dot.register_forward_pre_hook(lambda module, given: (*given[:3], -given[3]))
    queries, skip, masks = torch.randn(1, 5, 24), torch.randn(1, 8, 16, 16), torch.full((1, 5, 2, 2), -1.0)
    masks[0, :, 0, 0] = 1.0
    changed = skip.clone()
    changed[0, :, 12, 12] += 3.0  # blocked
    assert not torch.equal(level(queries, masks, changed), level(queries, masks, skip))


def test_the_next_level_asks_with_the_masks_of_the_last():
    """A query's tokens are those whose product with it is positive, before the first level and behind every one."""
    model = small(image_size=64)
    queries, seen, given = model.decoder.queries, [], []
    queries.dot.register_forward_hook(lambda module, inputs, out: seen.append(out))
    for level in queries.levels:
        level.register_forward_pre_hook(lambda module, inputs: given.append(inputs[1]))
    with torch.no_grad():
        model(torch.randn(2, 2, 64, 96))
    assert len(seen) == 5
    assert len(given) == 4
    assert all(torch.equal(used.flatten(2), made) for used, made in zip(given, seen, strict=False))
    assert {tuple(each.shape) for each in given} == {(2, 5, 2, 3)}
    assert not torch.equal(seen[0], seen[-1])


def test_places_are_those_of_the_stored_grid_and_interpolated_elsewhere():
    position = PositionEmbedding(tf.PositionEmbedding(channels=4, grid=(3, 5)))
    nn.init.normal_(position.weight)
    assert torch.equal(position(torch.zeros(1, 4, 3, 5)), position.weight)
    found = position(torch.zeros(2, 4, 7, 2))
    wanted = nn.functional.interpolate(position.weight, size=(7, 2), mode="bilinear", align_corners=False)
    assert torch.equal(found, wanted.expand(2, -1, -1, -1))
    with torch.no_grad():
        model = small(image_size=(64, 96))
        known = model(torch.ones(1, 2, 64, 96))
        model.decoder.vit.position.weight.zero_()
        assert not torch.equal(model(torch.ones(1, 2, 64, 96)), known)


def test_votes_are_class_probabilities_times_masks_less_what_is_no_object():
    classes, masks = torch.randn(2, 5, 4), torch.randn(2, 5, 6)
    found = MaskVote()(classes, masks)
    assert found.shape == (2, 3, 6)
    one = sum(classes[1, q].softmax(0)[2] * masks[1, q, 4].sigmoid() for q in range(5))
    torch.testing.assert_close(found[1, 2, 4], one)
    nothing = torch.tensor([[[-50.0, 50.0]]]).expand(2, 5, 2)
    assert float(MaskVote()(nothing, masks).abs().max()) < 1e-6


def test_tokens_go_to_a_map_and_back():
    x = torch.randn(2, 3, 4, 5, 6)
    tokens = to_tokens(x)
    assert tokens.shape == (2, 120, 3)
    assert torch.equal(tokens[1, 4 * 30 // 4 + 7], x[1, :, 1, 1, 1])
    assert torch.equal(to_map(tokens, x), x)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_class_head_learns_for_one_class_too(classes):
    """Alone it can say that nothing is there, which a softmax over the one class cannot."""
    queries = small(num_classes=classes, encoder_depth=1, dropout_rate=0.0).decoder.queries
    vit, optimizer, votes = torch.randn(2, 24, 3, 4), torch.optim.Adam(queries.classes.parameters(), 0.05), []
    for _ in range(20):
        found = queries(vit, [vit])
        assert found.shape == (2, classes, 3, 4)
        votes.append(found.mean().item())
        optimizer.zero_grad()
        found.mean().backward()
        optimizer.step()
    assert votes[-1] < 0.5 * votes[0]


def test_deep_supervision_gives_every_level_in_training_alone():
    model = small(deep_supervision=True, encoder_depth=4, num_classes=3, dropout_rate=0.0)
    image = torch.randn(2, 2, 37, 30)
    with torch.no_grad():
        alone = model(image)
        model.training = True  # the model's own switch: its norms still use what they have learned
        outputs = model(image)
    assert isinstance(outputs, list)
    assert [tuple(each.shape) for each in outputs] == [(2, 3, 37, 30)] * 4
    assert torch.equal(outputs[0], alone)
    assert not any(torch.equal(outputs[0], each) for each in outputs[1:])


def test_dropout_acts_in_training_alone():
    model = small(dropout_rate=0.5, norm="instance", encoder_depth=2)
    image = torch.randn(1, 2, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(image), model(image))
        model.train()
        assert not torch.equal(model(image), model(image))
    assert not any(isinstance(module, nn.Dropout) for module in small(dropout_rate=0.0).modules())


def test_an_encoder_of_ones_own_is_taken_with_its_weights():
    torch.manual_seed(3)
    residual = {key: SMALL[key] for key in ("widths", "stem_width", "depths")}
    encoder = resvox.create_model("resnet18", in_channels=1, **residual)
    options = {key: value for key, value in SMALL.items() if key not in residual}
    model = resvox.torch.TransUNet("trans_unet", encoder=encoder, encoder_depth=3, **options)
    assert torch.equal(model.encoder.layer2[0].conv1.weight, encoder.layer2[0].conv1.weight)
    assert not hasattr(model.encoder, "layer3") or not list(model.encoder.layer3.parameters())
    with pytest.raises(BlueprintError, match="TransUNet"):
        resvox.torch.TransUNet("unet")


def test_a_file_holds_all_of_it(tmp_path):
    model = small(spatial_dims=3, image_size=(20, 40, 33), encoder_depth=4)
    resvox.save_model(model, tmp_path / "model.safetensors")
    loaded = resvox.load_model(tmp_path / "model.safetensors")
    image = torch.randn(1, 2, 9, 18, 20)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))
    assert loaded.blueprint == model.blueprint
