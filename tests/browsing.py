"""What tests do in a browser: look at a page, save from it, ask what it did behind the scenes."""

import json
from pathlib import Path

from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait


def errors(browser: WebDriver) -> list[str]:
    """What the console has been told of errors since the last call."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def requests(browser: WebDriver) -> list[str]:
    """Addresses on a network that pages have asked for since the last call."""
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
    addresses = [event["params"]["request"]["url"] for event in sent]
    return [url for url in addresses if url.startswith(("http:", "https:", "ws:", "wss:"))]


def saving_to(browser: WebDriver, folder: Path) -> None:
    """Let downloads go to a folder."""
    options = {"behavior": "allow", "downloadPath": str(folder)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", options)


def saved(browser: WebDriver, file: Path) -> bytes:
    """A file that the browser saves, once it is complete."""
    WebDriverWait(browser, 10).until(lambda _: file.is_file())
    return file.read_bytes()
