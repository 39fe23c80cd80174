"""Pages of the report in a real browser: shown, sorted by mouse and keyboard, filtered, saved."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from sparselimit.pages import table_page
from tests import browsing

pytestmark = pytest.mark.browser

TABLE = pd.DataFrame(
    {
        "name": ["a<b", 'say "c", d', "two\nlines", ""],
        "share": [0.123456, np.nan, 1e-9, 0.123411],
        "large": [123456.0, 9.0, 1234567.25, 10.0],
        "count": pd.array([7, None, 10, 9], dtype="Int64"),
    }
)


def opened(browser: WebDriver, folder: Path, table: pd.DataFrame) -> None:
    (folder / "page.html").write_text(table_page("search_runs", table), encoding="utf-8")
    browser.get((folder / "page.html").as_uri())
    browser.set_script_timeout(5)
    browser.execute_async_script(
        "const done = arguments[0], look = () => "
        "document.querySelector('th') ? done() : setTimeout(look, 10); look();"
    )


def cells(browser: WebDriver) -> list[list[str]]:
    rows = "[...document.querySelectorAll('tbody tr')]"
    return browser.execute_script(f"return {rows}.map(r => [...r.cells].map(c => c.textContent))")


def column(browser: WebDriver, number: int) -> list[str]:
    return [row[number] for row in cells(browser)]


def headings(browser: WebDriver) -> list:
    return browser.find_elements(By.CSS_SELECTOR, "th button")


def test_numbers_are_rounded_and_gaps_a_dash(browser: WebDriver, tmp_path: Path) -> None:
    opened(browser, tmp_path, TABLE)
    assert browser.title == "search runs"
    assert [button.text for button in headings(browser)] == list(TABLE.columns)
    assert cells(browser) == [
        ["a<b", "0.1235", "123,456", "7"],
        ['say "c", d', "–", "9", "–"],
        ["two\nlines", "1e-9", "1,234,567", "10"],
        ["–", "0.1234", "10", "9"],
    ]


def test_sorting_by_mouse_and_by_keyboard(browser: WebDriver, tmp_path: Path) -> None:
    """By value, not by text nor by what is rounded away; gaps stay last."""
    opened(browser, tmp_path, TABLE)
    _, share, large, count = headings(browser)
    large.click()
    assert column(browser, 2) == ["9", "10", "123,456", "1,234,567"]
    share.click()
    assert column(browser, 1) == ["1e-9", "0.1234", "0.1235", "–"]
    share.send_keys(Keys.ENTER)
    assert column(browser, 1) == ["0.1235", "0.1234", "1e-9", "–"]
    sorted_by = "th[aria-sort='descending']"
    assert browser.find_element(By.CSS_SELECTOR, sorted_by).text.startswith("share")
    share.send_keys(Keys.TAB)
    assert browser.switch_to.active_element == large
    count.send_keys(Keys.SPACE)
    assert column(browser, 3) == ["7", "9", "10", "–"]
    assert len(browser.find_elements(By.CSS_SELECTOR, "th[aria-sort]")) == 1


def test_what_is_saved_is_the_table(browser: WebDriver, tmp_path: Path) -> None:
    browsing.saving_to(browser, tmp_path)
    opened(browser, tmp_path, TABLE)
    headings(browser)[1].click()
    browser.find_element(By.ID, "save").click()
    csv = browsing.saved(browser, tmp_path / "search_runs.csv")
    assert csv.decode() == TABLE.to_csv(index=False)


def test_a_long_table_is_filtered_and_shown_in_parts(browser: WebDriver, tmp_path: Path) -> None:
    n = 3000
    table = pd.DataFrame({"method": ["imp", "snip"] * (n // 2), "run": range(n)})
    opened(browser, tmp_path, table)
    extent = browser.find_element(By.ID, "extent")
    assert (len(cells(browser)), extent.text) == (500, "3,000 rows")
    more = browser.find_element(By.ID, "more")
    assert more.text == "Show all 3,000 rows"
    more.click()
    assert len(cells(browser)) == n
    assert not more.is_displayed()
    browser.find_element(By.ID, "filter").send_keys("SNIP")
    assert set(column(browser, 0)) == {"snip"}
    assert extent.text == "1,500 of 3,000 rows"


def test_an_empty_table_has_its_columns(browser: WebDriver, tmp_path: Path) -> None:
    opened(browser, tmp_path, TABLE.iloc[:0])
    assert len(headings(browser)) == 4
    assert cells(browser) == []


def test_pages_ask_nothing_of_a_network_and_make_no_error(
    browser: WebDriver, tmp_path: Path
) -> None:
    browsing.errors(browser)
    opened(browser, tmp_path, TABLE)
    assert browsing.errors(browser) == []
    assert browsing.requests(browser) == []


def test_a_request_and_an_error_would_be_seen(browser: WebDriver, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<img src='http://127.0.0.1:9/a.png'><script>throw new Error('oh')</script>")
    browser.get(file.as_uri())
    assert browsing.requests(browser) == ["http://127.0.0.1:9/a.png"]
    assert any("oh" in error for error in browsing.errors(browser))


def test_a_large_table_stays_a_small_page() -> None:
    """The report shows larger pages blank."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((8000, 12))).round(4)
    assert len(table_page("connectivity", table)) < 1_000_000
