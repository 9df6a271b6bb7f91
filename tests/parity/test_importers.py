"""Peers' weights in our networks: the outputs of the peers' own code, or a refusal; and the same weights back."""

import pytest
import torch
from parity.importer_peers import DEEP, PEERS, MedicalNet, Wrapped, drawn, monai_net
from parity.peers import TOLERANCE

import resvox
from resvox.errors import WeightsError
from resvox.weights.loading import load_weights

MADE = {}


def made(name):
    """A peer's network with drawn weights, made once."""
    if name not in MADE:
        with torch.device("meta"):
            module = PEERS[name].make()
        MADE[name] = drawn(module)
    return MADE[name]


def model_of(name, state=None, **options):
    """Our network for a peer's weights, and the report of the load."""
    peer = PEERS[name]
    state = made(name).state_dict() if state is None else state
    if peer.drops:  # with a head that resvox does not have
        state = {key: value for key, value in state.items() if "conv_seg" not in key}
    return resvox.create_model_from(state, peer=peer.peer, **{**peer.options, **options})


def difference(model, module, name, sizes=None):
    peer = PEERS[name]
    largest = 0.0
    for size in sizes or peer.sizes:
        x = torch.randn(2, peer.channels, *size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            a, b = model(x), module(x)
        a = a[-1] if isinstance(a, list) else a
        assert a.shape == b.shape
        assert float(b.std()) > 1e-3
        assert bool(b.isfinite().all())
        largest = max(largest, float((a - b).abs().max() / b.abs().max()))
    return largest


@pytest.mark.parametrize("name", PEERS)
def test_the_same_numbers_as_the_peers_own_code(name, record_property):
    model = model_of(name)
    assert resvox.weights.origin_of(model)["peer"] == PEERS[name].says
    found = difference(model, made(name), name)
    record_property("difference", found)
    assert found <= TOLERANCE


@pytest.mark.parametrize("name", [name for name in PEERS if PEERS[name].export])
def test_the_way_back_is_bit_identical(name, tmp_path):
    peer = PEERS[name]
    path = resvox.export_weights(model_of(name), tmp_path / "weights.pth", peer=peer.export)
    back = torch.load(path, weights_only=True)
    given = {key.removeprefix("module."): value for key, value in made(name).state_dict().items()}
    given = {key: value for key, value in given.items() if "conv_seg" not in key}
    assert set(back) == set(given)
    assert all(torch.equal(back[key], given[key]) for key in given)


@pytest.mark.parametrize("name", PEERS)
def test_every_change_of_a_state_dict_is_refused_or_seen(name):
    module, state = made(name), dict(made(name).state_dict())
    model = model_of(name)
    said = {"peer": PEERS[name].peer, "classifier": "drop" if PEERS[name].drops else "error"}
    load_weights(model, state, **said)
    unread = ("conv_seg", "encoder.layer4") if name.endswith("cut") else ("conv_seg",)
    kernels = [key for key in state if key.endswith("weight") and state[key].ndim > 2]
    kernels = [key for key in kernels if not any(word in key for word in unread)]
    gone = kernels[len(kernels) // 2]
    with pytest.raises(WeightsError, match="missing: " + gone.removeprefix("module.").replace(".", r"\.")):
        load_weights(model, {key: value for key, value in state.items() if key != gone}, **said)
    added = gone.replace("weight", "weigth")
    with pytest.raises(WeightsError, match=r"unknown: .*weigth"):
        load_weights(model, {**state, added: state[gone]}, **said)
    cut = torch.cat([state[gone], state[gone][:1]])
    with pytest.raises(WeightsError, match="misshapen: "):
        load_weights(model, {**state, gone: cut}, **said)
    a, b = next((a, b) for a in kernels for b in kernels if a < b and state[a].shape == state[b].shape) if len(
        {state[key].shape for key in kernels}) < len(kernels) else (None, None)  # fmt: skip
    if a is None:  # no two kernels of one shape: two norms then
        norms = [key for key in state if key.endswith("running_mean") and "conv_seg" not in key]
        a, b = next((a, b) for a in norms for b in norms if a < b and state[a].shape == state[b].shape)
    swapped = model_of(name, {**state, a: state[b], b: state[a]})
    assert difference(swapped, module, name, PEERS[name].sizes[1:]) > 10 * TOLERANCE


@pytest.mark.parametrize("name", PEERS)
def test_a_changed_eps_or_stride_of_the_peer_is_seen(name):
    module, model, sizes = made(name), model_of(name), PEERS[name].sizes[1:]
    norms = [each for each in module.modules() if hasattr(each, "eps")]
    kept = [each.eps for each in norms]
    for norm in norms:
        norm.eps = 1e-2
    assert difference(model, module, name, sizes) > 10 * TOLERANCE
    for norm, eps in zip(norms, kept, strict=True):
        norm.eps = eps
    striding = [each for each in module.modules() if isinstance(each, torch.nn.Conv2d | torch.nn.Conv3d)]
    # a kernel of one voxel that strides and one that dilates more keep every shape
    conv = next(each for each in reversed(striding) if max(each.kernel_size) == 3 and max(each.stride) == 1)
    before = conv.padding, conv.dilation
    dims = len(conv.stride)
    conv.padding, conv.dilation = tuple(2 * p for p in before[0]), tuple(2 * d for d in before[1])
    assert len(before[0]) == dims
    assert difference(model, module, name, sizes) > 10 * TOLERANCE
    conv.padding, conv.dilation = before


def test_a_cut_encoder_is_not_written_for_a_peer_that_keeps_it_whole(tmp_path):
    with pytest.raises(WeightsError, match="encoder_depth=5: it keeps the stages"):
        resvox.export_weights(model_of("smp-resnext50-cut"), tmp_path / "x.pth", peer="smp")


def test_medicalnet_as_derived_is_monais_network_where_they_coincide():
    import monai.networks.nets.resnet as monai_resnet

    for bottleneck, shortcut in ((False, "B"), (True, "B"), (False, "A")):
        options = {"strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1), "head": False, "num_classes": 3}
        with torch.device("meta"):
            derived = MedicalNet((1, 2, 1, 1), bottleneck=bottleneck, shortcut=shortcut, **options)
            block = "ResNetBottleneck" if bottleneck else "ResNetBlock"
            theirs = monai_net([1, 2, 1, 1], block, widths=monai_resnet.get_inplanes(), spatial_dims=3,
                               n_input_channels=1, num_classes=3, conv1_t_stride=2, bias_downsample=False,
                               shortcut_type=shortcut)()  # fmt: skip
        drawn(derived)
        theirs.load_state_dict(derived.state_dict(), strict=True, assign=True)
        x = torch.randn(1, 1, 33, 32, 40)
        with torch.no_grad():
            a, b = derived(x), theirs.eval()(x)
        assert float((a - b).abs().max() / b.abs().max()) <= TOLERANCE


def test_medicalnet_in_an_ordinary_network_is_refused_and_says_which_option():
    with torch.device("meta"):
        module = Wrapped(MedicalNet((1, 1, 1, 1), head=False))
    state = drawn(module).state_dict()
    plain = resvox.create_model("resnet10", spatial_dims=3, in_channels=1, features_only=True)
    with pytest.raises(WeightsError, match=r"layer3\.0\.conv1 stride \(1, 1, 1\) for \(2, 2, 2\).*output_stride"):
        load_weights(plain, state)
    right = resvox.create_model(
        "resnet10", spatial_dims=3, in_channels=1, features_only=True, output_stride=8, dilate_first_block=True
    )
    assert load_weights(right, state).peer == "MedicalNet"
    assert right(torch.zeros(1, 1, *DEEP[0]))[-1].shape == (1, 512, 2, 3, 4)
