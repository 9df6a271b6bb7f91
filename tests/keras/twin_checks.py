"""What a Keras model must do besides giving PyTorch's outputs; run on every backend by twin_runner.py.

Each check is a function of a fresh folder and of PyTorch's answers; what it returns is kept and may be compared
between backends.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import ops
from twin_cases import THIN_DECODERS, random_image, random_tensors, relative_difference

import resvox
import resvox.keras as rk
import resvox.torch.tensors
import resvox.torch.transformers
from resvox.blueprint.transformers import AttentionProduct as AttentionNode
from resvox.errors import BlueprintError, WeightsError
from resvox.keras.operations import AveragePool, DropPath, GroupNorm, LinearUpsample, MaxPool, ZeroPad
from resvox.keras.tensors import fill, tensors_of
from resvox.keras.transformers import AttentionProduct, PositionEmbedding

THIN: dict[str, Any] = {"widths": (8, 12, 16, 24), "stem_width": 8, "depths": (1, 1, 1, 1)}
BACKBONE: dict[str, Any] = {
    "num_blocks": [1, 1, 1, 1],
    "block_type": "bottleneck_block_vd",
    "conv_filters": [4, 4, 8],
    "conv_kernel_sizes": [3, 3, 3],
    "num_filters": [8, 12, 16, 24],
}
UNET: dict[str, Any] = {**THIN, "decoder_filters": (16, 12, 8, 8, 4)}
TRANSFORMER: dict[str, Any] = {"num_vit_layers": 1, "num_heads": 2, "num_queries": 4, "embed_dim": 12, "mlp_dim": 16}
# the shapes of the cases, for which JAX has compiled every operation already
FLAT, VOLUME = (33, 46, 2), (17, 34, 20, 2)
COMPILES = keras.backend.backend() == "jax"  # every operation anew for every shape


def value(x: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(ops.cast(x, "float32")))


def randomized(model: Any) -> Any:
    fill(model, random_tensors(model.blueprint))
    return model


def image(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def refused(text: str, build: Any, kind: type[Exception] = BlueprintError) -> None:
    with pytest.raises(kind) as caught:
        build()
    assert text in str(caught.value)


def _savable() -> dict[str, Any]:
    volume = (17, None, 20, 2)
    encoder = randomized(rk.ResNet18(input_shape=volume, num_classes=2, **THIN))
    return {
        "classifier": rk.ResNet18(input_shape=FLAT, num_classes=3, name="mine", **THIN),
        "mixed": rk.ResNet50v2(input_shape=FLAT, num_classes=3, dtype="mixed_bfloat16", drop_path=0.2, **THIN),
        "pooled": rk.SEResNet18(input_shape=(None, None, 2), include_top=False, pooling="max", se_ratio=2, **THIN),
        "rescaled": rk.ResNeXt50(input_shape=FLAT, include_rescaling=True, classifier_activation="softmax", **THIN),
        "backbone": rk.ResNetBackbone(input_shape=volume, name="encoder of mine", se_block=True, **BACKBONE),
        "unet": rk.UNet(input_shape=volume, num_classes=2, name="my_unet", norm="instance", dtype="mixed_bfloat16",
                        decoder_interpolation="linear", **UNET),
        "unet-around": rk.UNet(encoder=encoder, encoder_depth=3, num_classes=2, decoder_filters=(8, 8, 4)),
        "trans-around": rk.TransUNet(encoder=encoder, encoder_depth=3, decoder_filters=(8, 8, 4), **TRANSFORMER),
        "trans": rk.TransUNet(input_shape=FLAT, encoder_depth=2, deep_supervision=True, dtype="mixed_bfloat16",
                              patch_size=3, **TRANSFORMER, **UNET),
    }  # fmt: skip


def check_a_saved_model_is_the_same_model(folder: Path, answers: Path) -> None:
    for name, model in _savable().items():
        randomized(model)
        model.save(folder / f"{name}.keras")
        loaded = keras.models.load_model(folder / f"{name}.keras")
        assert type(loaded) is type(model), name
        assert (loaded.name, loaded.dtype_policy.name) == (model.name, model.dtype_policy.name), name
        assert loaded.blueprint == model.blueprint, name
        assert loaded.input_shape == model.input_shape, name
        assert loaded.beside_blueprint == model.beside_blueprint, name
        assert [each.name for each in loaded.layers] == [each.name for each in model.layers], name
        assert list(loaded.pyramid_outputs) == list(model.pyramid_outputs), name
        x = image(2, *(FLAT if len(model.input_shape) == 4 else VOLUME))
        found, wanted = (keras.tree.flatten(each(x, training=False)) for each in (loaded, model))
        assert all(np.array_equal(value(a), value(b)) for a, b in zip(found, wanted, strict=True)), name


def check_a_backbone_in_a_sequential_is_saved_whole(folder: Path, answers: Path) -> None:
    backbone = randomized(rk.ResNetBackbone(input_shape=VOLUME, groups=4, width_per_group=16, **BACKBONE))
    for each in backbone.layers[:5]:
        each.trainable = False
    frozen = [each.name for each in backbone.layers if not each.trainable]
    model = keras.Sequential([backbone, keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    inner = loaded.layers[0]
    assert type(inner) is rk.ResNetBackbone
    assert inner.blueprint == backbone.blueprint
    assert len(frozen) == 5
    assert [each.name for each in inner.layers if not each.trainable] == frozen
    assert loaded.loss == "mse"
    x = image(2, *VOLUME)
    assert np.array_equal(value(model(x, training=False)), value(loaded(x, training=False)))
    inner.trainable = False
    loaded.save(folder / "frozen.keras")
    assert keras.models.load_model(folder / "frozen.keras").layers[0].trainable is False


def check_a_model_saved_on_another_backend_loads(folder: Path, answers: Path) -> float:
    loaded = keras.models.load_model(answers / "portable.keras")
    wanted = np.load(answers / "portable.npz")
    difference = relative_difference(value(loaded(wanted["image"], training=False)), wanted["output"])
    assert difference < 1e-4
    return difference


def check_a_clone_gives_the_same(folder: Path, answers: Path) -> None:
    model = randomized(rk.UNet(input_shape=(None, None, 2), **UNET))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = image(2, 37, 30, 2)
    assert np.array_equal(value(model(x, training=False)), value(clone(x, training=False)))
    refused("without a blueprint", lambda: resvox.save_model(clone, folder / "clone.safetensors"), WeightsError)
    again = type(model).from_config(model.get_config())
    assert again.blueprint == model.blueprint


def check_one_model_file_serves_both_frameworks(folder: Path, answers: Path) -> None:
    for blueprint in (
        resvox.get_blueprint("unet", in_channels=2, decoder_block_type="transpose", **UNET),
        resvox.get_blueprint("resnet18v2", spatial_dims=3, in_channels=2, num_classes=2, **THIN),
    ):
        model = randomized(rk.build(blueprint))
        resvox.save_model(model, folder / "from-keras.safetensors", metadata={"labels": {"a": 1}})
        torch_model = resvox.load_model(folder / "from-keras.safetensors")
        resvox.save_model(torch_model, folder / "from-torch.safetensors")
        back = resvox.load_model(folder / "from-torch.safetensors", framework="keras")
        tensors, returned = tensors_of(model), tensors_of(back)
        assert list(tensors) == list(returned) == list(blueprint.tensors())
        assert all(np.array_equal(tensors[name], returned[name]) for name in tensors)
        x = random_image(blueprint, VOLUME[:3] if blueprint.spatial_dims == 3 else (37, 30))
        with torch.no_grad():
            wanted = np.moveaxis(torch_model(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy(), 1, -1)
        assert relative_difference(value(model(x, training=False)), wanted) < 1e-4
    rescaled = rk.ResNet10(input_shape=(8, 8, 1), include_rescaling=True, **THIN)
    refused("include_rescaling=True", lambda: resvox.save_model(rescaled, folder / "no.safetensors"), WeightsError)
    plain = rk.build(resvox.get_blueprint("resnet10", in_channels=1, num_classes=0, **THIN), dtype="bfloat16")
    sixteen = tensors_of(plain)
    assert {array.dtype for array in sixteen.values()} == {np.dtype(np.float32)}
    refused("missing or unknown tensors fc.bias, fc.weight", lambda: fill(rescaled, sixteen), WeightsError)
    pooled = rk.ResNet10(input_shape=(8, 8, 1), include_top=False, pooling="max", **THIN)
    refused("pooling='max'", lambda: resvox.save_model(pooled, folder / "no.safetensors"), WeightsError)


def check_mixed_precision_ends_in_float32(folder: Path, answers: Path) -> None:
    def agree(short: Any, whole: Any, policy: str) -> None:
        x = image(2, *FLAT)
        found, wanted = (randomized(model)(x, training=False) for model in (short, whole))
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        assert short.dtype_policy.name == policy
        computing = {each.compute_dtype for each in short.layers if each.count_params()}
        assert computing == {policy.removeprefix("mixed_"), "float32"}
        assert all(variable.dtype == "float32" for variable in short.trainable_variables)
        assert relative_difference(value(found), value(wanted)) < 0.1

    models = [
        lambda dtype: rk.SEResNet18(input_shape=FLAT, num_classes=3, dtype=dtype, **THIN),
        lambda dtype: rk.UNet(input_shape=FLAT, dtype=dtype, norm="group", decoder_interpolation="linear",
                              encoder_name="resnet18v2", **UNET),
    ]  # fmt: skip
    for build in models:
        agree(build("mixed_bfloat16"), build("float32"), "mixed_bfloat16")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        agree(models[0](None), models[0]("float32"), "mixed_float16")
        backbone = rk.ResNetBackbone(input_shape=FLAT, **BACKBONE)
        pooled = rk.ResNet18(input_shape=FLAT, include_top=False, pooling="avg", **THIN)
    finally:
        keras.config.set_dtype_policy("float32")
    assert backbone.output.dtype == "float16"  # a map is for the layers behind it
    assert pooled.output.dtype == "float32"


def check_open_sizes_and_predict(folder: Path, answers: Path) -> None:
    options = {"norm": "group", "decoder_interpolation": "linear", "encoder_depth": 3, **UNET}
    options["strides"] = ((1, 2, 2), 2, 2, 2, 2)
    model = rk.UNet(input_shape=(None, None, None, 1), num_classes=2, **options)
    randomized(model)
    assert model.output.shape == (None, None, None, None, 2)
    for size in ((5, 9, 8), (7, 6, 12)):
        x = image(1, *size, 1)
        found = model.predict(x, verbose=0)
        assert found.shape == (1, *size, 2)
        fixed = randomized(rk.UNet(input_shape=(*size, 1), num_classes=2, **options))
        assert fixed.output.shape == (None, *size, 2)
        assert relative_difference(found, value(fixed(x, training=False))) < 1e-5
    classifier = rk.ResNet18vd(input_shape=(None, 33, 1), num_classes=2, shortcut="zero_pad", **THIN)
    assert classifier.pyramid_outputs["P5"].shape == (None, None, 2, 24)
    assert classifier.predict(image(1, 1, 33, 1), verbose=0).shape == (1, 2)


def check_any_size_comes_back(folder: Path, answers: Path) -> int:
    """Ten random sizes of 1 to 40 a side, in 2D and in 3D, on each segmentation model: the image's size, and PyTorch's
    numbers. On JAX, which compiles for minutes, the models take turns at them."""
    rng, seen = np.random.default_rng(12), 0
    for dims in (2, 3):
        sizes = [tuple(int(n) for n in rng.integers(1, 41, dims)) for _ in range(10)]
        for turn, (name, thin) in enumerate(THIN_DECODERS.items()):
            blueprint = resvox.get_blueprint(
                name, spatial_dims=dims, in_channels=1, num_classes=2, encoder_depth=4, **THIN, **thin
            )
            model, twin = randomized(rk.build(blueprint)), resvox.torch.build(blueprint)
            resvox.torch.tensors.fill(twin, random_tensors(blueprint))
            for size in sizes[turn::4] if COMPILES else sizes:
                x = image(1, *size, 1)
                found = value(model(x, training=False))
                assert found.shape == (1, *size, 2), (name, size)
                assert np.isfinite(found).all(), (name, size)
                seen += 1
                if name != "trans_unet":  # a mask's threshold may fall to either side of a rounding
                    with torch.no_grad():
                        wanted = np.moveaxis(twin(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy(), 1, -1)
                    assert relative_difference(found, wanted) < 1e-4, (name, size)
    assert seen == (20 if COMPILES else 80)
    return seen


def check_training_reaches_every_weight(folder: Path, answers: Path) -> None:
    models = [
        rk.SEResNet18(input_shape=(24, 24, 1), num_classes=2, shortcut="zero_pad", drop_path=0.3, **THIN),
        rk.ResNet50v2(input_shape=(16, 18, 17, 1), num_classes=2, **THIN),
        rk.UNet(input_shape=(20, 21, 1), num_classes=2, encoder_name="resnet18vd", **UNET),
        rk.UNet(input_shape=(20, 21, 1), decoder_block_type="transpose", decoder_normalization=False, encoder_depth=2,
                **UNET),
        rk.TransUNet(input_shape=(36, 33, 1), encoder_depth=3, patch_size=1, **TRANSFORMER, **UNET),
    ]  # fmt: skip
    for model in models:
        shape = model.output.shape[1:]
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        before = [np.array(value(variable)) for variable in model.weights]
        # far targets, so that no step is lost beside the value it is added to
        model.train_on_batch(image(4, *model.input_shape[1:]), 1000 * image(4, *shape, seed=5))
        for variable, old in zip(model.weights, before, strict=True):
            assert np.isfinite(value(variable)).all(), variable.path
            assert not np.array_equal(value(variable), old), f"{model.name}: {variable.path} has not moved"


def check_running_statistics_move_as_pytorchs(folder: Path, answers: Path) -> None:
    blueprint = resvox.get_blueprint(
        "resnet10", in_channels=2, num_classes=3, norm=("batch", {"momentum": 0.3}), **THIN
    )
    ours, theirs = randomized(rk.build(blueprint)), resvox.torch.build(blueprint)
    resvox.torch.tensors.fill(theirs, random_tensors(blueprint))
    x = image(2, *FLAT)
    ours(x, training=True)
    theirs.train()(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
    found, wanted = tensors_of(ours), resvox.torch.tensors.tensors_of(theirs)
    for name in ("bn1", "layer2.0.bn1"):
        assert relative_difference(found[f"{name}.running_mean"], wanted[f"{name}.running_mean"]) < 1e-4
        # Keras takes the variance over n, PyTorch over n - 1
        assert relative_difference(found[f"{name}.running_var"], wanted[f"{name}.running_var"]) < 2e-2
        assert not np.array_equal(found[f"{name}.running_var"], random_tensors(blueprint)[f"{name}.running_var"])


def check_initial_values(folder: Path, answers: Path) -> dict[str, float]:
    keras.utils.set_random_seed(7)
    model = rk.UNet(encoder_name="seresnet18", input_shape=(None, None, 1), zero_init_residual=True,
                    decoder_block_type="transpose", decoder_filters=(64, 32, 16, 8, 8))  # fmt: skip
    tensors = tensors_of(model)
    he = tensors["encoder.layer2.0.conv1.weight"]  # (128, 64, 3, 3)
    assert abs(he.std() / np.sqrt(2 / (128 * 9)) - 1) < 0.02
    assert abs(he.mean()) < 1e-3
    for name, fan_in in (("encoder.layer4.0.se.fc1", 512), ("decoder.blocks.0.up.0", 64 * 16), ("head", 8)):
        for part in ("weight", "bias"):
            limit = 1 / np.sqrt(fan_in)
            assert np.abs(tensors[f"{name}.{part}"]).max() <= limit, name
        assert np.abs(tensors[f"{name}.weight"]).max() > 0.9 * limit or tensors[f"{name}.weight"].size < 50
    assert not tensors["encoder.layer1.0.bn2.weight"].any()
    assert (tensors["encoder.layer1.0.bn1.weight"] == 1).all()
    preactivation = rk.ResNet18v2(input_shape=(None, None, 1), zero_init_residual=True, **THIN)
    assert not tensors_of(preactivation)["stages.0.blocks.0.conv2.weight"].any()
    keras.utils.set_random_seed(7)
    again = rk.UNet(encoder_name="seresnet18", input_shape=(None, None, 1), zero_init_residual=True,
                    decoder_block_type="transpose", decoder_filters=(64, 32, 16, 8, 8))  # fmt: skip
    assert all(np.array_equal(array, tensors[name]) for name, array in tensors_of(again).items())
    return {name: float(array.sum(dtype=np.float64)) for name, array in tensors.items()}


def check_layer_names_are_the_blueprints_paths(folder: Path, answers: Path) -> None:
    for model in (
        rk.UNet(encoder_name="resnet18v2", input_shape=(None, None, 1), **UNET),
        rk.ResNetBackbone(input_shape=(None, None, None, 1), **BACKBONE),
    ):
        names = [each.name for each in model.layers]
        assert len(set(names)) == len(names)
        assert not any(mark in name for name in names for mark in "./")
        owners = {path.replace(".", "_") for path, leaf in model.blueprint.network.leaves() if leaf.parameters}
        assert {each.name for each in model.layers if each.weights} == owners
    small = rk.UNet(encoder_name="resnet18v2", input_shape=(8, 8, 1), **UNET)
    assert "encoder_stages_0_blocks_0_conv1" in [each.name for each in small.layers]


def check_drop_path(folder: Path, answers: Path) -> None:
    layer = DropPath(rate=0.25, seed=1)
    x = np.ones((400, 2, 3), np.float32)
    assert np.array_equal(value(layer(x, training=False)), x)
    first, second = (value(layer(x, training=True)) for _ in range(2))
    per_sample = first.reshape(400, -1)
    assert (per_sample == per_sample[:, :1]).all()
    assert set(np.round(np.unique(first), 5)) == {0.0, np.float32(1.33333)}
    assert 0.15 < (per_sample[:, 0] == 0).mean() < 0.35
    assert not np.array_equal(first, second)
    again = DropPath.from_config(layer.get_config())
    assert (again.rate, again.seed) == (0.25, 1)


def check_a_query_sees_what_its_mask_allows(folder: Path, answers: Path) -> None:
    """A blocked token changes nothing, an attended one does; where all are blocked, all are attended."""
    layer = AttentionProduct(heads=2)
    query, tokens = image(1, 3, 8), image(1, 6, 8, seed=4)
    masks = np.full((1, 2, 3, 3), -1.0, np.float32)  # a map of 2 x 3 tokens, a channel a query
    masks[0, 0, :2, 0], masks[0, 1, 1, 0] = 0.0, 2.0  # the first query: tokens 0, 1, 4; a half is enough
    masks[0, 1, 0, 1] = 1.0  # the second: token 3; the third: none, and so all
    sees = [{0, 1, 4}, {3}, set(range(6))]
    before = value(layer([query, tokens, tokens, masks]))
    for token in range(6):
        changed = tokens.copy()
        changed[0, token] += 3.0
        after = value(layer([query, changed, changed, masks]))
        for row in range(3):
            assert np.array_equal(after[0, row], before[0, row]) is (token not in sees[row]), (token, row)
    assert np.array_equal(before[0, 2], value(layer([query, tokens, tokens]))[0, 2])
    theirs = resvox.torch.transformers.AttentionProduct(AttentionNode(channels=8, heads=2))
    allowed = torch.tensor([[token in row for token in range(6)] for row in sees])[None]
    evidence = allowed.to(torch.float32) - 0.5
    wanted = theirs(*(torch.from_numpy(x) for x in (query, tokens, tokens)), evidence).numpy()
    assert relative_difference(before, wanted) < 1e-6


def check_places_are_interpolated_as_pytorch_does(folder: Path, answers: Path) -> None:
    for grid, size in (((3, 5), (7, 2)), ((4, 1), (1, 3)), ((2, 3, 4), (5, 3, 1))):
        layer = PositionEmbedding(grid=grid, seed=1)
        zeros = np.zeros((2, *size, 6), np.float32)
        found = value(layer(zeros))
        stored = torch.from_numpy(np.moveaxis(value(layer.kernel), (-1, -2), (0, 1)).copy())
        mode = ("bilinear", "trilinear")[len(grid) - 2]
        wanted = torch.nn.functional.interpolate(stored, size=size, mode=mode, align_corners=False).numpy()
        assert relative_difference(found, np.repeat(np.moveaxis(wanted, 1, -1), 2, axis=0)) < 1e-6
        again = PositionEmbedding.from_config(layer.get_config())
        again.build((None, *grid, 6))
        assert np.array_equal(value(again.kernel), value(layer.kernel))


def check_operations_match_pytorchs(folder: Path, answers: Path) -> None:
    def channels_last(y: torch.Tensor) -> np.ndarray:
        return np.moveaxis(y.numpy(), 1, -1)

    for size in ((5, 4), (1, 3), (2, 1, 3)):
        dims = len(size)
        x = image(2, *size, 3) - 4.0  # below zero everywhere, where padding with zeros would win a maximum
        t = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
        pools = {2: torch.nn.functional.max_pool2d, 3: torch.nn.functional.max_pool3d}
        found = MaxPool(pool_size=(3,) * dims, strides=(2,) * dims, padding=(1,) * dims)(x)
        assert np.array_equal(value(found), channels_last(pools[dims](t, 3, 2, 1)))
        for scale in ((2, 2), (3, 1)) if dims == 2 else ((3, 2, 1),):
            wanted = torch.nn.functional.interpolate(
                t, scale_factor=[float(s) for s in scale], mode=("bilinear", "trilinear")[dims - 2], align_corners=False
            )
            layer = LinearUpsample(scale=scale)
            assert relative_difference(value(layer(x)), channels_last(wanted)) < 1e-6
            assert layer.compute_output_shape(x.shape) == (2, *(n * s for n, s in zip(size, scale, strict=True)), 3)
        high = x + 1000.0  # where the mean square less the squared mean has no digit left
        for groups in (1, 3, -1):
            wanted = torch.group_norm(
                torch.from_numpy(np.moveaxis(high, -1, 1).copy()), abs(groups) if groups > 0 else 3
            )
            found = value(GroupNorm(groups=groups, epsilon=1e-5)(high))
            assert np.abs(found - channels_last(wanted)).max() < 2e-3
    for stride in (2, 3):
        x = np.arange(7, dtype=np.float32).reshape(1, 7, 1, 1)
        layer = AveragePool(strides=(stride, 1))
        wanted = [x[0, n : n + stride, 0, 0].mean() for n in range(0, 7, stride)]
        assert np.allclose(value(layer(x))[0, :, 0, 0], wanted)
        assert layer.compute_output_shape(x.shape) == (1, len(wanted), 1, 1)
    x = image(1, 5, 4, 2)
    found = value(ZeroPad(strides=(2, 1), extra_channels=3)(x))
    assert np.array_equal(found[..., :2], x[:, ::2])
    assert found.shape == (1, 3, 4, 5)
    assert not found[..., 2:].any()


def check_channels_stay_last(folder: Path, answers: Path) -> None:
    keras.config.set_image_data_format("channels_first")
    try:
        model = rk.UNet(input_shape=(None, None, None, 2), encoder_name="resnet18vd", num_classes=3, **UNET)
        classifier = rk.SEResNet18(input_shape=FLAT, num_classes=4, **THIN)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.output.shape == (None, None, None, None, 3)
    assert classifier.output.shape == (None, 4)
    assert classifier.pyramid_outputs["P2"].shape == (None, 9, 12, 8)


def check_a_wrong_number_is_seen(folder: Path, answers: Path) -> None:
    """The comparison of the twins would notice: another eps, another padding, one tensor a little off."""
    options = {"in_channels": 2, "num_classes": 3, **THIN}
    x = image(2, *FLAT)
    right = randomized(rk.build(resvox.get_blueprint("resnet18", **options)))
    wanted = value(right(x, training=False))
    wrong = randomized(rk.build(resvox.get_blueprint("resnet18", norm=("batch", {"eps": 1e-3}), **options)))
    assert relative_difference(value(wrong(x, training=False)), wanted) > 1e-4
    tensors = random_tensors(right.blueprint)
    tensors["layer2.0.bn1.running_var"] = tensors["layer2.0.bn1.running_var"] * np.float32(1.01)
    fill(right, tensors)
    assert relative_difference(value(right(x, training=False)), wanted) > 1e-4
    same = keras.layers.Conv2D(4, 3, strides=2, padding="same", kernel_initializer="ones")
    ours = keras.Sequential(
        [keras.layers.ZeroPadding2D(1), keras.layers.Conv2D(4, 3, strides=2, kernel_initializer="ones")]
    )
    even, odd = image(1, 8, 8, 2), image(1, 9, 9, 2)
    assert relative_difference(value(same(odd)), value(ours(odd))) < 1e-5
    assert relative_difference(value(same(even)), value(ours(even))) > 0.1


def check_arguments_are_refused_by_name(folder: Path, answers: Path) -> None:
    flat = (8, 8, 1)
    keras_layer = keras.layers.Conv2D(1, 3)
    inner = keras_layer(keras.Input(flat))
    two = {"num_blocks": [1, 1, 1, 1], "block_type": "basic_block"}
    for text, build in (
        ("expected weights=None or False", lambda: rk.ResNet18(input_shape=flat, weights="imagenet")),
        ("did you mean pooling or", lambda: rk.ResNet18(input_shape=flat, poolin="avg")),
        ("unknown option supervision= for unet", lambda: rk.UNet(input_shape=flat, supervision=True)),
        ("did you mean decoder_filters", lambda: rk.UNet(input_shape=flat, decoder_filtres=(8,))),
        ("unknown option grops= for ResNetBackbone", lambda: rk.ResNetBackbone(input_shape=flat, grops=2, **two)),
        ("ResNet18 without input_shape", lambda: rk.ResNet18()),
        ("ResNetBackbone without num_blocks", lambda: rk.ResNetBackbone(input_shape=flat)),
        ("block_type='basic'", lambda: rk.ResNetBackbone(input_shape=flat, **{**two, "block_type": "basic"})),
        ("num_blocks=[1, 1]", lambda: rk.ResNetBackbone(input_shape=flat, **{**two, "num_blocks": [1, 1]})),
        ("num_strides=(2, 2, 2, 2)", lambda: rk.ResNetBackbone(input_shape=flat, num_strides=[2, 2, 2, 2], **two)),
        ("conv_kernel_sizes=(4,)", lambda: rk.ResNetBackbone(input_shape=flat, conv_kernel_sizes=[4], **two)),
        ("conv_filters=(32, 64)", lambda: rk.ResNetBackbone(input_shape=flat, conv_filters=[32, 64],
                                                            conv_kernel_sizes=[3, 3], **two)),
        ("groups=4, width_per_group=64 with basic blocks",
         lambda: rk.ResNetBackbone(input_shape=flat, groups=4, **two)),
        ("se_block=1", lambda: rk.ResNetBackbone(input_shape=flat, se_block=1, **two)),
        ("se_activation='banana'",
         lambda: rk.ResNetBackbone(input_shape=flat, se_block=True, se_activation="banana", **two)),
        ("pooling='foo'", lambda: rk.ResNet18(input_shape=flat, include_top=False, pooling="foo")),
        ("pooling='avg' with a classifier", lambda: rk.ResNet18(input_shape=flat, pooling="avg")),
        ("input_shape=(8, 1)", lambda: rk.ResNet18(input_shape=(8, 1))),
        ("an input_tensor that is", lambda: rk.ResNet18(input_tensor=inner)),
        ("two that agree", lambda: rk.ResNet18(input_tensor=keras.Input(flat), input_shape=(9, 9, 1))),
        ("exactly one of the two", lambda: rk.UNet(encoder=rk.ResNet10(input_shape=flat, **THIN),
                                                   encoder_name="resnet18")),
        ("an encoder that is a Conv2D", lambda: rk.UNet(encoder=keras_layer)),
        ("encoder_depth=6", lambda: rk.UNet(encoder=rk.ResNet10(input_shape=flat, **THIN), encoder_depth=6)),
        ("unknown option encoder_nam=", lambda: rk.UNet(input_shape=flat, encoder_nam="resnet18")),
        ("a blueprint and arguments ['num_classes']",
         lambda: rk.UNet(resvox.get_blueprint("unet"), num_classes=2)),
        ("use resvox.keras.build", lambda: rk.ResNet(resvox.get_blueprint("unet"))),
        ("for a network of 2 dims and 3 channels",
         lambda: rk.build(resvox.get_blueprint("resnet10"), input_shape=(8, 8, 8, 3))),
        ("pooling='max' with 3 classes",
         lambda: rk.build(resvox.get_blueprint("resnet10", num_classes=3), pooling="max")),
    ):  # fmt: skip
        refused(text, build)
    refused("ResNet19", lambda: rk.ResNet19, AttributeError)
    assert "ResNeXt101_64x4d" in dir(rk)
    assert rk.SEResNet50.__name__ == "SEResNet50" in rk.__all__


def check_what_a_model_is_built_on(folder: Path, answers: Path) -> None:
    tensor = keras.Input((16, 16, 1), name="scan")
    on_tensor = randomized(rk.ResNet18(input_tensor=tensor, num_classes=2, **THIN))
    joined = keras.Model(tensor, on_tensor.output)
    x = image(1, 16, 16, 1)
    assert np.array_equal(value(joined(x, training=False)), value(on_tensor(x, training=False)))
    rescaled = randomized(rk.ResNet18(input_shape=(16, 16, 1), num_classes=2, include_rescaling=True, **THIN))
    assert relative_difference(value(rescaled(x * 255, training=False)), value(on_tensor(x, training=False))) < 1e-5
    x = image(1, 36, 33, 1)
    backbone = randomized(rk.ResNet18(input_shape=(36, 33, 1), include_top=False, **THIN))
    assert type(backbone) is rk.ResNetBackbone
    assert backbone.name == "ResNet18"
    for pooling, wanted in (("avg", np.mean), ("max", np.max)):
        pooled = randomized(rk.ResNet18(input_shape=(36, 33, 1), include_top=False, pooling=pooling, **THIN))
        maps = value(backbone(x, training=False))
        assert relative_difference(value(pooled(x, training=False)), wanted(maps, axis=(1, 2))) < 1e-5
    around = rk.UNet(encoder=backbone, encoder_depth=4, decoder_filters=(8, 8, 8, 4))
    alone = rk.UNet(input_shape=(36, 33, 1), encoder_depth=4, decoder_filters=(8, 8, 8, 4), **THIN)
    assert around.blueprint == alone.blueprint
    assert around.input_shape == (None, 36, 33, 1)
    given, taken = tensors_of(backbone), tensors_of(around)
    shared = [name for name in taken if name.startswith("encoder.")]
    assert shared
    assert all(np.array_equal(taken[name], given[name.removeprefix("encoder.")]) for name in shared)
    assert not any("layer4" in name for name in taken)
    made = resvox.create_model("resnet10", framework="keras", input_shape=(16, 17, 1), num_classes=2, **THIN)
    assert made.input_shape == (None, 16, 17, 1)
    gelu = rk.ResNetBackbone(input_shape=(8, 8, 1), se_block=True, se_activation="gelu", **BACKBONE)
    assert gelu.blueprint.network.layer1.items[0].se.act.kind == "gelu"
    assert gelu.blueprint.network.layer1.items[0].act1.kind == "relu"


def check_figures_of_the_family(folder: Path, answers: Path) -> None:
    if keras.backend.backend() != "torch":
        return  # hundreds of megabytes; counts do not depend on the backend
    backbone = rk.ResNetBackbone(
        input_shape=(96, 96, 96, 4), num_blocks=[3, 4, 23, 3], block_type="bottleneck_block", groups=64,
        width_per_group=4,
    )  # fmt: skip
    assert backbone.count_params() == 92_359_680
    model = keras.Sequential(
        [backbone, keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(1, activation="sigmoid")]
    )
    assert model.count_params() == 92_361_729
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 92_158_849
    assert sum(int(np.prod(v.shape)) for v in model.non_trainable_variables) == 202_880
    words = io.StringIO()
    with contextlib.redirect_stdout(words):
        model.summary()
    row = next(line for line in words.getvalue().splitlines() if "ResNetBackbone" in line)
    assert "ResNetBackbone (ResNetBackbone)" in row
    assert "(None, 3, 3, 3, 2048)" in row
    assert "92,359,680" in row
    del model, backbone
    volume = {"encoder_name": "resnet18", "input_shape": (96, 96, 96, 4), "num_classes": 3}
    unet = rk.UNet(classifier_activation="sigmoid", **volume)
    assert unet.count_params() == 42_688_179
    assert unet.output.shape == (None, 96, 96, 96, 3)
    assert rk.UNet(encoder_depth=4, **volume).count_params() == 14_822_755
    classifier = rk.ResNet18(input_shape=(96, 96, 96, 4), num_classes=3, classifier_activation=None)
    assert [x.shape[1:] for x in classifier.pyramid_outputs.values()] == [
        (48, 48, 48, 64), (24, 24, 24, 64), (12, 12, 12, 128), (6, 6, 6, 256), (3, 3, 3, 512),
    ]  # fmt: skip
    assert rk.ResNet18(input_shape=(224, 224, 3)).count_params() == 11_699_112


CHECKS = {name: check for name, check in globals().items() if name.startswith("check_")}
