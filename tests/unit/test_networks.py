"""Architectures: their sizes, what they compute, and how they are named and refused."""

from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sparselimit import images, own
from sparselimit.datasets import Dataset
from sparselimit.networks import architectures, plain, resnet
from sparselimit.networks.network import BUILDERS, Design, Network, prunable
from tests.unit.refusals import refused

CIFAR, MNIST, TINY = (3, 32, 32), (1, 28, 28), (3, 64, 64)
ONE = np.ones(1)


def design(
    architecture: str, shape: tuple[int, ...], classes: int = 10, widths: tuple[int, ...] = ()
) -> Design:
    return Design(architecture, widths, shape, classes, 0 * ONE, ONE)


def on_meta(design: Design) -> Network:
    """Shapes without numbers: large networks cost nothing."""
    with torch.device("meta"):
        return Network(design)


# --- Sizes ---------------------------------------------------------------------------------------


# Parameters and weights counted by hand, layer by layer, and for those of the literature equal to
# the numbers known of them.
@pytest.mark.parametrize(
    ("architecture", "shape", "classes", "widths", "parameters", "weights"),
    [
        ("fc", (1, 8, 8), 10, (20, 20), 1930, 64 * 20 + 20 * 20 + 20 * 10),
        ("fc", (64,), 10, (4,), 310, 64 * 4 + 4 * 10),
        ("fc5", CIFAR, 10, (), 3_885_010, 3_883_000),
        ("fc12", CIFAR, 10, (), 7_269_610, 7_263_000),
        ("mlpnet", MNIST, 10, (), 32_360, 32_360),
        ("conv", (1, 8, 8), 10, (4, 8), 678, 36 + 288 + 320),
        ("conv", (3, 9, 5), 2, (4, 8), 108 + 8 + 288 + 16 + 98, 108 + 288 + 96),
        ("alexnet", CIFAR, 10, (), 46_787_978, 46_778_400),
        ("vgg16", CIFAR, 10, (), 14_728_266, 14_715_584),
        ("resnet18", CIFAR, 100, (), 11_220_132, 11_210_432),
        ("resnet50", CIFAR, 100, (), 23_705_252, 23_652_032),
        ("resnet20", CIFAR, 10, (), 269_722, 268_336),
        ("resnet20", (1, 8, 8), 10, (8,), 67_906, 67_208),
    ],
)
def test_networks_have_the_published_sizes(
    architecture: str,
    shape: tuple[int, ...],
    classes: int,
    widths: tuple[int, ...],
    parameters: int,
    weights: int,
) -> None:
    network = on_meta(design(architecture, shape, classes, widths))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert int(prunable(network).sum()) == weights
    assert network(torch.empty(5, *shape, device="meta")).shape == (5, classes)


@pytest.mark.parametrize("architecture", ["fc5", "alexnet", "vgg16", "resnet18", "resnet50"])
def test_larger_images_fit_too(architecture: str) -> None:
    network = on_meta(design(architecture, TINY, 200))
    assert network(torch.empty(2, *TINY, device="meta")).shape == (2, 200)


def test_weights_of_layers_may_be_pruned_and_nothing_else() -> None:
    layers = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm(2), nn.Linear(3, 2), nn.Embedding(4, 2)
    )
    sizes = [18, 2, 2, 2, 2, 2, 6, 2, 8]
    assert prunable(layers).tolist() == np.repeat([1, 0, 0, 0, 0, 0, 1, 0, 0], sizes).tolist()


# --- What they compute ---------------------------------------------------------------------------


def test_fully_connected_networks_are_linear_layers_with_relu_between() -> None:
    module = plain.fc((2, 2), 3, 6, 5)
    x = torch.randn(7, 2, 2)
    hidden = x.flatten(1)
    for layer in (module[1], module[3]):
        assert isinstance(layer, nn.Linear)
        hidden = torch.relu(hidden @ layer.weight.T + layer.bias)
    torch.testing.assert_close(module(x), module[5](hidden))


def _copied(source: nn.Module, target: nn.Module) -> None:
    """Random values for all parameters and statistics of one, the same for the other."""
    for tensor in source.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5).mul_(prod(tensor.shape[1:]) ** -0.5)
    own_values, values = target.state_dict(), source.state_dict()
    assert [v.shape for v in own_values.values()] == [v.shape for v in values.values()]
    target.load_state_dict(dict(zip(own_values, values.values(), strict=True)))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16"])
def test_networks_compute_what_those_of_torchvision_do(name: str) -> None:
    """With the first layers for small images in the place of those for large ones."""
    images._torchvision_datasets()  # also where torchvision does not load by itself
    from torchvision.models import resnet as theirs
    from torchvision.models import vgg

    torch.manual_seed(0)
    x = torch.rand(2, 3, 32, 32)
    if name == "vgg16":
        reference: nn.Module = nn.Sequential(
            vgg.make_layers(vgg.cfgs["D"], batch_norm=True), nn.Flatten(), nn.Linear(512, 10)
        )
    else:
        reference = getattr(theirs, name)(num_classes=10)
        reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        reference.maxpool = nn.Identity()
    network = BUILDERS[name]((3, 32, 32), 10)
    _copied(reference.eval(), network.eval())
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference(x), rtol=1e-4, atol=1e-4)


def test_shortcuts_of_resnet20_skip_pixels_and_add_empty_channels() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    out = resnet.Subsample(3)(x)
    assert out.shape == (1, 5, 2, 2)
    torch.testing.assert_close(out[0, :2], x[0, :, ::2, ::2])
    assert not out[0, 2:].any()


def test_a_network_standardises_what_it_is_given() -> None:
    """Bytes and numbers, each channel by its own moments, in the precision of its parameters."""
    mean, std = np.array([10.0, 20.0]), np.array([2.0, 4.0])
    network = Network(Design("fc", (3,), (2, 2, 2), 2, mean, std))
    x = torch.arange(16, dtype=torch.uint8).reshape(2, 2, 2, 2)
    channels = [(x[:, 0].float() - 10) / 2, (x[:, 1].float() - 20) / 4]
    torch.testing.assert_close(network(x), network.layers(torch.stack(channels, dim=1)))
    assert network.double()(x).dtype == torch.float64
    torch.testing.assert_close(network(x.double()), network(x))
    assert not network.training


def test_one_moment_serves_all_features_and_channels() -> None:
    for shape in ((3,), (3, 2, 2)):
        network = Network(Design("fc", (2,), shape, 2, ONE, 2 * ONE))
        x = torch.rand(4, *shape)
        torch.testing.assert_close(network(x), network.layers((x - 1) / 2))


# --- Names ---------------------------------------------------------------------------------------


def test_all_names_can_be_built() -> None:
    assert set(BUILDERS) == set(architectures.WIDTHS)


@pytest.mark.parametrize(
    ("architecture", "widths", "words"),
    [
        ("resnet19", [], ["'resnet19' is unknown", "resnet18", "file.py:function"]),
        ("fc", [], ["fc takes at least one of `widths`, not 0"]),
        ("conv", [], ["conv takes at least one"]),
        ("vgg16", [64], ["vgg16 takes 0 at most of `widths`, not 1"]),
        ("resnet20", [8, 16], ["resnet20 takes 1 at most", "not 2"]),
        ("mine.py:network", [8], ["mine.py:network takes 0 at most"]),
    ],
)
def test_what_cannot_be_is_refused(architecture: str, widths: list[int], words: list[str]) -> None:
    with refused(*words):
        architectures.check(architecture, widths)
    data = Dataset(np.zeros((2, 1, 8, 8)), np.array([0, 1]), np.zeros(2, np.int64))
    with refused(*words):
        Design.of(architecture, widths, data)


def test_a_design_fits_the_data() -> None:
    x, y = np.zeros((3, 1, 8, 8), np.uint8), np.array([0, 4, 2])
    found = Design.of("conv", [4, 8], Dataset(x, y, y, std=16 * ONE))
    assert (found.shape, found.classes, found.widths) == ((1, 8, 8), 5, (4, 8))
    assert (found.mean.tolist(), found.std.tolist()) == ([0], [16])


@pytest.mark.parametrize("architecture", ["conv", "vgg16", "resnet20"])
def test_convolutions_of_what_is_no_image_are_refused(architecture: str) -> None:
    widths = (4,) if architecture == "conv" else ()
    with refused("takes images, not 64 features: use fc"):
        Network(design(architecture, (64,), widths=widths))


def test_images_that_are_too_small_are_refused() -> None:
    with refused("vgg16 does not take inputs of shape (1, 8, 8)"):
        on_meta(design("vgg16", (1, 8, 8)))


# --- A network of one's own ----------------------------------------------------------------------

OWN = """
import torch
from torch import nn
from own_blocks import block

def network():
    return nn.Sequential(block(3), nn.Flatten(), nn.Linear(48, 5))

def frozen():
    return network().requires_grad_(False).train()

def values():
    return torch.zeros(3)

def flat():
    return nn.Flatten(0)

def fails():
    raise KeyError("of your own")

def bare():
    return nn.Sequential(nn.Flatten(), nn.LayerNorm(16))

NUMBER = 3
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "own_blocks.py").write_text(
        "from torch import nn\ndef block(n): return nn.Conv2d(1, n, 3, padding=1)\n"
    )
    path = tmp_path / "own_network.py"
    path.write_text(OWN)
    return str(path)


@pytest.mark.parametrize("function", ["network", "frozen"])
def test_a_function_builds_a_network(mine: str, function: str) -> None:
    """Modules beside it can be imported; all parameters are trainable, and it is evaluated."""
    network = Network(design(f"{mine}:{function}", (1, 4, 4), 5))
    assert network(torch.rand(2, 1, 4, 4)).shape == (2, 5)
    assert not any(part.training for part in network.modules())
    assert all(p.requires_grad for p in network.parameters())
    assert int(prunable(network).sum()) == 27 + 48 * 5


@pytest.mark.parametrize(
    ("function", "classes", "words"),
    [
        ("nothing", 5, ["defines no function nothing"]),
        ("NUMBER", 5, ["defines no function NUMBER"]),
        ("values", 5, ["values gives a Tensor, not a torch.nn.Module"]),
        ("flat", 5, ["flat gives (32,) for 2 inputs, not logits"]),
        ("fails", 5, ["fails fails, line 19: KeyError: 'of your own'"]),
        ("bare", 5, ["bare has no linear or convolutional layer"]),
        ("network", 6, ["network tells 5 classes, and the data have 6"]),
    ],
)
def test_what_a_function_does_wrong_is_told(
    mine: str, function: str, classes: int, words: list[str]
) -> None:
    with refused(mine, *words):
        Network(design(f"{mine}:{function}", (1, 4, 4), classes))


def test_inputs_that_do_not_fit_are_told(mine: str) -> None:
    with refused("does not take inputs of shape (1, 5, 5)"):
        Network(design(f"{mine}:network", (1, 5, 5), 5))


def test_code_that_is_not_there_or_broken_is_told(tmp_path: Path) -> None:
    with refused("there is no file", "none.py"):
        own.call(f"{tmp_path}/none.py:network")
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    with refused(
        "broken.py:network cannot be imported, line 1", "ModuleNotFoundError", "nowhere_to_be_found"
    ):
        own.call(f"{tmp_path}/broken.py:network")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mine.py:network", True),
        ("a folder/mine.py:build_1", True),
        ("resnet18", False),
        ("mine.py", False),
        ("mine.py:", False),
        ("mine.py:1", False),
        ("mine:network", False),
        ("a.py:b.py:c", False),
    ],
)
def test_code_of_ones_own_has_a_form(name: str, expected: bool) -> None:
    assert own.is_own(name) is expected
