"""The report in a real browser: headless Chromium opens it, and every figure and table in it."""

import html
import re
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from sparselimit.statistics import ACCURACIES
from tests import browsing
from tests.workflow.conftest import Workflow

pytestmark = [pytest.mark.workflow, pytest.mark.browser]


def _open(browser: WebDriver, report: Path, *path: str) -> None:
    """Open the report and follow links by their text."""
    browser.get("about:blank")
    browser.get(report.as_uri())
    for text in path:
        _follow(browser, text)


def _follow(browser: WebDriver, text: str) -> None:
    link = f"//a[normalize-space(.)='{text}'] | //button[normalize-space(.)='{text}']"
    _all(browser, link)[-1].click()


def _all(browser: WebDriver, path: str) -> list[WebElement]:
    """The elements at an XPath, once there are any."""
    return WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.XPATH, path))


def _entries(browser: WebDriver) -> list[str]:
    """Names of the results listed."""
    return [cell.text for cell in _all(browser, "//tr[.//a[@iconname='eye']]/td[1]")]


def _sections(browser: WebDriver) -> list[str]:
    """Names of the sections, in the order of the menu."""
    heading = "//li[normalize-space(.)='Results']/following-sibling::li//a"
    return [link.text for link in _all(browser, heading)]


def _click(browser: WebDriver, entry: str, icon: str) -> None:
    """Click an icon beside a result that is listed: `eye` shows it, `information-circle` tells."""
    row = f'//tr[td[normalize-space(.)="{entry}"]]//a[@iconname="{icon}"]'
    _all(browser, row)[0].click()


def _shown(browser: WebDriver) -> str | None:
    """The label of the result that is shown: a picture, or a page with text in it."""
    script = """
        const all = Object.values(results), parts = [...document.querySelectorAll("img, iframe")];
        const part = parts.find((part) => all.some((result) => result.data_uri === part.src));
        if (!part || part.naturalWidth < 300 || part.clientWidth < 300) return null;
        return all.find((result) => result.data_uri === part.src).labels.result;
    """
    found = browser.execute_script(script)
    frames = browser.find_elements(By.TAG_NAME, "iframe")
    if found and frames:
        browser.switch_to.frame(frames[0])
        text = browser.find_element(By.TAG_NAME, "body").text
        browser.switch_to.default_content()
        return found if text else None
    return found


def _wait_for(browser: WebDriver, entry: str) -> None:
    WebDriverWait(browser, 20).until(lambda b: _shown(b) == entry, entry)


def test_the_explorer_works_inside_the_report(browser: WebDriver, finished: Workflow) -> None:
    """A network is picked, loses an edge, and is as before after a reset."""
    browsing.errors(browser), browsing.requests(browser)
    _open(browser, finished.folder / "report.html", "01 Overview")
    _entries(browser)
    _click(browser, "Explore the networks", "eye")
    _wait_for(browser, "Explore the networks")
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


def test_the_first_page_answers_the_question(browser: WebDriver, finished: Workflow) -> None:
    """With what the page of the overview has: sentences, figure and table."""
    _open(browser, finished.folder / "report.html")
    (overview,) = _all(browser, "//*[@class='overview']")
    assert [name.text for name in overview.find_elements(By.TAG_NAME, "strong")] == [
        *("Truth.", "Algorithms.", "Theory.", "What it took."),
    ]
    title = overview.find_element(By.TAG_NAME, "h1")
    box = browser.execute_script("return arguments[0].getBoundingClientRect()", title)
    assert box["top"] >= 0  # else no scrolling would lead there
    assert box["left"] > 200  # right of the menu
    page = (finished.folder / "results/overview.html").read_text(encoding="utf-8")
    assert len(page) < 1_000_000
    for sentence in overview.find_elements(By.XPATH, "p[strong]"):
        assert html.escape(sentence.text.partition(". ")[2]) in page
    assert len(overview.find_elements(By.CSS_SELECTOR, "tbody tr")) == len(ACCURACIES)
    width = "return document.querySelector('.overview img').naturalWidth"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(width) > 300)
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
    shown = []
    for section in _sections(browser):
        _follow(browser, section)
        for entry in _entries(browser):
            _click(browser, entry, "eye")
            _wait_for(browser, entry)
            shown.append(entry)
        _all(browser, "//nav//ol/li[1]//a")[0].click()  # home
    labels = "return Object.values(results).map((result) => result.labels.result)"
    assert sorted(shown) == sorted(browser.execute_script(labels))
    assert browsing.errors(browser) == []
    assert browsing.requests(browser) == []


def test_the_data_of_a_figure_is_one_click_away(browser: WebDriver, finished: Workflow) -> None:
    """The description of every figure has a link to each table that it is drawn from."""
    _open(browser, finished.folder / "report.html", "03 The frontier")
    results, rules = (browser.execute_script(f"return {name}") for name in ("results", "rules"))
    figures = {path: result for path, result in results.items() if path.endswith(".svg")}
    for path, figure in figures.items():
        files = " ".join(rules[figure["job_properties"]["rule"]]["input"])
        linked = re.findall(r"showResultInfo\('(results/tables/\w+)\.html'\)", figure["caption"])
        assert set(linked) == set(re.findall(r"(results/tables/\w+)\.csv", files)), path
        assert "problematic" not in figure["caption"], path  # links that lead nowhere

    _click(
        browser, figures["results/figures/frontier.svg"]["labels"]["result"], "information-circle"
    )
    _all(browser, "//a[.='methods.html']")[0].click()
    _all(browser, "//a[@iconname='eye']")[0].click()
    _wait_for(browser, results["results/tables/methods.html"]["labels"]["result"])


def test_a_table_in_the_report_is_sorted_and_saved(
    browser: WebDriver, finished: Workflow, tmp_path: Path
) -> None:
    browsing.saving_to(browser, tmp_path)
    _open(browser, finished.folder / "report.html", "03 The frontier")
    labels = "return results['results/tables/frontier.html'].labels.result"
    entry = browser.execute_script(labels)
    _click(browser, entry, "eye")
    _wait_for(browser, entry)
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    heading = _all(browser, "//th/button[.='weights']")[0]
    for order, first in (("ascending", "4"), ("descending", "8")):
        heading.click()
        assert browser.find_element(By.XPATH, f"//th[@aria-sort='{order}']").text == "weights"
        assert browser.find_element(By.CSS_SELECTOR, "tbody td").text == first
    browser.find_element(By.ID, "save").click()
    csv = browsing.saved(browser, tmp_path / "frontier.csv")
    assert csv == (finished.folder / "results/tables/frontier.csv").read_bytes()
    browser.switch_to.default_content()


def test_the_report_stays_small(finished: Workflow) -> None:
    """Small enough for a mail, and no page so large that it would be shown blank."""
    assert (finished.folder / "report.html").stat().st_size < 20_000_000
    for page in finished.folder.glob("results/**/*.html"):
        assert page.stat().st_size < 1_000_000, page
