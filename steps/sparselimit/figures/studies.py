"""What is shown of the pruning studies: whom a name belongs to, and which rows a figure takes."""

from collections.abc import Iterable

import pandas as pd

MAGNITUDE = "magnitude"  # of initial values: what a method must beat that looks at data or training
_CONTROL, _VARIANT = "random_", "_effective"


def variant(method: str) -> str:
    """The name of a method whose targets count effective weights."""
    return method + _VARIANT


def control(method: str) -> str:
    """The name of random masks with as many weights in every layer as the method keeps."""
    return _CONTROL + method


def is_control(name: str) -> bool:
    return name.startswith(_CONTROL)


def owners(names: Iterable[str]) -> dict[str, str]:
    """The method that each name of a variant or a control belongs to; a method belongs to itself.

    A name that ends as variants do is a method of its own where no such method is named.
    """
    names = set(names)
    found = {}
    for name in names:
        method = name.removeprefix(_CONTROL)
        plain = method.removesuffix(_VARIANT)
        found[name] = plain if plain in names else method
    return found


def pruned(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of pruning methods: neither dense networks nor variants nor random controls."""
    names = set(table.method) - {"dense"}
    belongs = owners(names)
    return table[table.method.isin([name for name in names if belongs[name] == name])]


def of_widths(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the study that prunes the most networks: what does width do to a method?"""
    networks = table[table.method != "dense"].groupby("study").network.nunique()
    return table[table.study.isin(networks.index[networks == networks.max()][:1])]


def beside_widths(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the other studies, or of that one where there is no other."""
    others = table.drop(of_widths(table).index)
    others = others[others.method != "dense"]
    return table[table.method != "dense"] if others.empty else others


def places(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Rows by study and network: studies of few networks first, each from narrow to wide."""
    networks = table.groupby("study").network.nunique().sort_values(kind="stable")
    return {
        (study, network): table[(table.study == study) & (table.network == network)]
        for study in networks.index
        for network in network_labels(table.network[table.study == study])
    }


def network_labels(networks: Iterable[str]) -> dict[str, str]:
    """What figures call networks, from narrow to wide: `w16` by its width, others by their name."""
    names = sorted(set(networks), key=lambda name: (_width(name), name))
    return {name: str(_width(name) or name) for name in names}


def _width(network: str) -> int:
    """The width w of `w16`; 0 for a shape of another name."""
    width = network.removeprefix("w")
    return int(width) if width.isdecimal() else 0
