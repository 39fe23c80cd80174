"""Fixtures shared by all tests."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import h5py
import pytest
import torch
from selenium import webdriver
from selenium.webdriver.chrome.webdriver import WebDriver

from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble.members import Points

torch.set_num_threads(1)  # networks here are small, and tests run side by side

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="session")
def cubist() -> Iterator[h5py.File]:
    """Reference vectors computed with the published code of the Cubist Spiral study."""
    with h5py.File(REFERENCE / "cubist.h5") as file:
        yield file


@pytest.fixture(scope="session")
def spiral() -> Points:
    """The Cubist Spiral in single precision."""
    data = cubist_spiral()
    return Points(torch.tensor(data.x), torch.tensor(data.y, dtype=torch.float32))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """A headless Chromium that reaches no network."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs Chromium (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--proxy-server=127.0.0.1:9",
        "--window-size=1400,900",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    # The console, and every request that a page makes.
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With FORBID_SKIPS set, a test that would be skipped fails: the gate runs everything."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("FORBID_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped where skips are forbidden: {report.longrepr}"
    return report
