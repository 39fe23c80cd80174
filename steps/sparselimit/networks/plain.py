"""Networks that are one layer after another: fully connected, and convolutional without shortcuts.

Each function builds a network for inputs of a shape, (features,) or (channels, height, width), that
tells so many classes by logits. Fully connected ones flatten images.
"""

from math import prod

from torch import nn

from sparselimit.errors import InputError


def fc(shape: tuple[int, ...], classes: int, *hidden: int, bias: bool = True) -> nn.Sequential:
    """Linear layers of the given hidden widths with ReLU between."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = prod(shape)
    for n_out in hidden:
        layers += [nn.Linear(width, n_out, bias), nn.ReLU()]
        width = n_out
    return nn.Sequential(*layers, nn.Linear(width, classes, bias))


def fc5(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network of five layers of Zhang et al. (2024)."""
    return fc(shape, classes, 1000, 600, 300, 100)


def fc12(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network of twelve layers of Zhang et al. (2024)."""
    return fc(shape, classes, 1000, 900, 800, 750, 700, 650, 600, 500, 400, 200, 100)


def mlpnet(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """784-40-20-10 without biases on MNIST: the small network of WoodFisher, CBS and CHITA."""
    return fc(shape, classes, 40, 20, bias=False)


def conv(shape: tuple[int, ...], classes: int, *channels: int) -> nn.Sequential:
    """3x3 convolutions of stride 2, each batch-normalised, and a linear layer on what is left."""
    n_in, height, width = image(shape)
    layers: list[nn.Module] = []
    for n_out in channels:
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(n_out), nn.ReLU()]
        n_in, height, width = n_out, (height + 1) // 2, (width + 1) // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_in * height * width, classes))


def alexnet(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """AlexNet as Zhang et al. (2024) have it: on images enlarged to 224x224, without dropout.

    Pixels are repeated, those of CIFAR seven times.
    """
    return nn.Sequential(
        nn.Upsample(size=(224, 224)),
        *(nn.Conv2d(image(shape)[0], 96, 11, stride=4, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *fc((256, 5, 5), classes, 4096, 4096),
    )


def vgg16(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """VGG16 for small images: batch normalisation, and a single linear layer at the end.

    Images larger than 32x32 are averaged over what the last convolution leaves of them.
    """
    layers: list[nn.Module] = []
    n_in = image(shape)[0]
    for n_out, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
            n_in = n_out
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, classes))


def image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width. Raises InputError for what is no image."""
    if len(shape) != 3:
        raise InputError(f"the architecture takes images, not {shape[0]} features: use fc")
    channels, height, width = shape
    return channels, height, width
