"""Architectures of classifiers by name, and what `widths` means for each.

Those of the literature come in their published sizes. A network of one's own is named by a function
that builds it (`file.py:function`, see `sparselimit.own`). Nothing here needs torch, so that a
study can be checked without it; `networks.network` builds them.
"""

from collections.abc import Sequence

from sparselimit import own
from sparselimit.errors import InputError

_NONE = range(1)
_SOME = range(1, 1000)
# How many widths each takes: hidden widths of fc, channels of conv, of resnet20 the channels of its
# first stage (16 if left out).
WIDTHS = {
    "fc": _SOME,
    "fc5": _NONE,
    "fc12": _NONE,
    "mlpnet": _NONE,
    "conv": _SOME,
    "alexnet": _NONE,
    "vgg16": _NONE,
    "resnet18": _NONE,
    "resnet20": range(2),
    "resnet50": _NONE,
}


def check(architecture: str, widths: Sequence[int]) -> None:
    """Raises InputError for a name that is unknown, or widths that do not go with it."""
    if own.is_own(architecture):
        allowed = _NONE
    elif architecture in WIDTHS:
        allowed = WIDTHS[architecture]
    else:
        raise InputError(
            f"architecture '{architecture}' is unknown: use one of {', '.join(WIDTHS)}, or a "
            "function that builds yours (file.py:function)"
        )
    if len(widths) not in allowed:
        takes = "at least one" if allowed == _SOME else f"{allowed.stop - 1} at most"
        raise InputError(
            f"architecture {architecture} takes {takes} of `widths`, not {len(widths)}"
        )
