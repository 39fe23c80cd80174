"""The page about one network: what it says, and that it needs no other file."""

import re
from pathlib import Path

import pandas as pd

from sparselimit import store
from sparselimit.network_page import network_page, sentences
from tests.unit.refusals import refused
from tests.unit.test_cli import Step, limits, step  # noqa: F401 (a fixture)

NETWORKS = pd.DataFrame(
    {
        "network": ["mine"],
        "architecture": ["fc 20"],
        "prunable": [1500],
        "parameters": [1550],
        "validation_accuracy": [0.97],
    }
)
BOUNDS = pd.DataFrame(
    [
        ("hessian", "abs", "published", "none", "batch_std", 0.004, None, None, "too coarse"),
        ("ggn", "psd", "B", "offset", "batch_std", 0.004, 0.8, 0.2, ""),
        ("ggn", "psd", "B", "isotropic", "batch_std", 0.004, 0.9, 0.1, ""),
        ("ggn", "psd", "B", "offset", "fixed", 0.1, 0.95, 0.05, ""),
    ],
    columns=[
        *("operator", "negative", "formula", "direction", "rule", "epsilon"),
        *("pruning_ratio", "density", "reason"),
    ],
).assign(one_shot_ratio=0.25, one_shot_ratio_by_accuracy=0.375)


def test_it_says_what_is_measured_and_predicted() -> None:
    """By the published tolerance, and of B the reading that knows most."""
    first, measured, predicted, _ = sentences({"networks": NETWORKS, "bounds": BOUNDS}, 0.01)
    assert "1,500 prunable weights among 1,550 parameters" in first
    assert "97.00% validation accuracy" in first
    assert "smallest 37.5%" in measured
    assert "falls by more than 1.00%, and 25.0%" in measured
    assert "0.004 nats" in measured
    assert "|λ|: unresolved, too coarse; corrected B" in predicted
    assert predicted.endswith("80.0% can be removed, 20.0% must stay.")
    assert "90.0%" not in predicted


def test_a_page_is_made_of_a_network_and_its_limits(step: Step, tmp_path: Path) -> None:  # noqa: F811
    """It stands alone: all that it shows is in it."""
    data, network = tmp_path / "digits.h5", tmp_path / "net.h5"
    assert step("data_digits", "--output", data) == 0
    trained = ("--architecture", "fc", "--widths", 4, "--epochs", 2)
    assert step("train_network", "--data", data, *trained, "--output", network) == 0
    limits(step, tmp_path, "--data", data, "--network", network)
    spectra = [tmp_path / f"net-{operator}.h5" for operator in ("hessian", "ggn")]
    # As the rules name them: by the network they are about.
    for part in ("sweep", "bounds"):
        (tmp_path / part).mkdir()
    (tmp_path / "sweep.h5").rename(tmp_path / "sweep" / "net.h5")
    (tmp_path / "net-bounds.h5").rename(tmp_path / "bounds" / "net.h5")
    paths = [network, *spectra, tmp_path / "sweep" / "net.h5", tmp_path / "bounds" / "net.h5"]
    page = tmp_path / "report.html"
    assert step("network_page", "--name", "net", *paths, "--output", page) == 0
    text = page.read_text()
    assert "How far can net be pruned?" in text
    assert text.count('<img src="data:image/svg+xml;base64,') == 5
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    files = [store.read(path, "network", "spectrum", "sweep", "bounds") for path in paths]
    with refused("no file of kind 'bounds'"):
        network_page("net", files[:-1])
    assert step("network_page", "--name", "net", *paths[:-1], "--output", page) == 2
