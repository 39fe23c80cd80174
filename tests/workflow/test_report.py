"""The report in a real browser: headless Chromium opens it, and every figure and table in it."""

from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests import browsing
from tests.workflow.conftest import Workflow

pytestmark = [pytest.mark.workflow, pytest.mark.browser]


def _open(browser: WebDriver, report: Path, *path: str) -> None:
    """Open the report and follow links by their text."""
    browser.get("about:blank")
    browser.get(report.as_uri())
    for text in path:
        link = f"//a[normalize-space(.)='{text}'] | //button[normalize-space(.)='{text}']"
        _all(browser, link)[-1].click()


def _all(browser: WebDriver, path: str) -> list[WebElement]:
    """The elements at an XPath, once there are any."""
    return WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.XPATH, path))


def _entries(browser: WebDriver) -> list[str]:
    """Names of the results listed."""
    return [cell.text for cell in _all(browser, "//table//tbody/tr/td[1]")]


def _sections(browser: WebDriver) -> list[str]:
    """Names of the sections, in the order of the menu."""
    heading = "//li[normalize-space(.)='Results']/following-sibling::li//a"
    return [link.text for link in _all(browser, heading)]


def _show(browser: WebDriver, entry: str) -> None:
    row = f'//tr[td[normalize-space(.)="{entry}"]]//a[@iconname="eye"]'
    browser.find_element(By.XPATH, row).click()


def _shows_a_picture(browser: WebDriver) -> bool:
    script = "return [...document.images].some(i => i.naturalWidth > 300 && i.width > 300)"
    return bool(browser.execute_script(script))


def _shows_a_page(browser: WebDriver) -> bool:
    """An embedded page has arrived, with text in it."""
    frames = browser.find_elements(By.TAG_NAME, "iframe")
    if not frames:
        return False
    browser.switch_to.frame(frames[0])
    text = browser.find_element(By.TAG_NAME, "body").text
    browser.switch_to.default_content()
    return bool(text)


def test_the_explorer_works_inside_the_report(browser: WebDriver, finished: Workflow) -> None:
    """A network is picked, loses an edge, and is as before after a reset."""
    browsing.errors(browser), browsing.requests(browser)
    _open(browser, finished.folder / "report.html", "01 Overview")
    _entries(browser)
    _show(browser, "Explore the networks")
    WebDriverWait(browser, 20).until(_shows_a_page)
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    sources = Select(browser.find_element(By.ID, "source"))
    names = [option.text for option in sources.options]
    everyone = ["exhaustive search", "search from above", "dense networks", "IMP", "SNIP"]
    assert names == everyone
    sources.select_by_visible_text("IMP")
    weights = browser.find_element(By.ID, "counts").text
    browser.find_element(By.CSS_SELECTOR, ".row button").click()
    WebDriverWait(browser, 20).until(
        lambda b: (
            b.find_element(By.ID, "counts").text.split()[0] == str(int(weights.split()[0]) - 1)
        )
    )
    browser.find_element(By.ID, "reset").click()
    assert browser.find_element(By.ID, "counts").text == weights
    browser.switch_to.default_content()
    assert browsing.errors(browser) == []
    assert browsing.requests(browser) == []


def test_the_first_page_states_the_question(browser: WebDriver, finished: Workflow) -> None:
    _open(browser, finished.folder / "report.html")
    WebDriverWait(browser, 20).until(lambda b: "How sparse" in b.page_source)
    assert "every sparse network with 4 to 8 weights" in browser.page_source.replace("\n", " ")


def test_sections_stand_in_reading_order(browser: WebDriver, finished: Workflow) -> None:
    _open(browser, finished.folder / "report.html")
    sections = _sections(browser)
    assert sections == sorted(sections)
    assert [int(section[:2]) for section in sections] == sorted({int(s[:2]) for s in sections})


def test_every_result_is_listed_in_its_section_and_shown(
    browser: WebDriver, finished: Workflow
) -> None:
    """And none of them makes an error or asks anything of a network."""
    report = finished.folder / "report.html"
    browsing.errors(browser), browsing.requests(browser)
    _open(browser, report)
    shown = 0
    for section in _sections(browser):
        _open(browser, report, section)
        for entry in _entries(browser):
            _open(browser, report, section)
            _entries(browser)
            _show(browser, entry)
            is_shown = _shows_a_picture if entry.startswith("Figure") else _shows_a_page
            WebDriverWait(browser, 20).until(is_shown)
            shown += 1
    assert shown == browser.execute_script("return Object.keys(results).length")
    assert browsing.errors(browser) == []
    assert browsing.requests(browser) == []
