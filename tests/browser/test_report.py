"""The report in a real browser: it opens from disk, is complete, loads nothing from the network, and fits.

Screenshots and the print go to the folder that ``EXVO_SCREENSHOTS`` names, for people to look at.
``EXVO_REPORT`` may name a report to open in place of the one made here.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from webdriver import Browser

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and CHROMEDRIVER),
        reason="no chromium and chromedriver here: apt-get install chromium chromium-driver",
    ),
]


DECODE = """
return Promise.all([...document.querySelectorAll('audio')].map(async player => {
    const bytes = Uint8Array.from(atob(player.src.split(',')[1]), letter => letter.charCodeAt(0));
    const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer);
    return [sound.length, sound.getChannelData(0).reduce((a, b) => Math.max(a, Math.abs(b)), 0)];
}));
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, request):
    given = os.environ.get("EXVO_REPORT")
    path = Path(given).resolve() if given else tmp_path_factory.mktemp("page") / "report.html"
    if not given:
        request.getfixturevalue("made_run").write(path)
    return path


@pytest.fixture(scope="module")
def browser(report):
    browser = Browser(CHROMEDRIVER, CHROMIUM)
    try:
        browser.resize(1280, 900)
        browser.open(report.as_uri())
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    given = os.environ.get("EXVO_SCREENSHOTS")
    path = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_nothing_is_loaded_from_the_network_and_there_are_no_errors(browser, report):
    browser.wait("return document.readyState === 'complete'")
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert report.as_uri() in asked
    assert [url[:80] for url in asked if not url.startswith("data:") and url != report.as_uri()] == []
    assert browser.log("browser") == []


def test_tables_figures_and_players_are_there(browser):
    counts = browser.run(
        "return Object.fromEntries(['section', 'table', 'figure img', 'audio', '.overview', 'details']"
        ".map(name => [name, document.querySelectorAll(name).length]))"
    )
    assert counts["section"] == 11 and counts[".overview"] == 1 and counts["details"] >= 8
    assert counts["table"] >= 12 and counts["figure img"] >= 10 and counts["audio"] >= 5
    empty = "return [...document.querySelectorAll('tbody')].filter(body => !body.rows.length).length"
    assert browser.run(empty) == 0


def test_every_picture_is_drawn(browser):
    browser.wait("return [...document.images].every(image => image.complete)")
    widths = browser.run("return [...document.images].map(image => image.naturalWidth)")
    assert min(widths) > 100


def test_every_player_has_its_sound(browser):
    browser.wait("return [...document.querySelectorAll('audio')].every(a => a.readyState > 0 || a.error)")
    found = browser.run(
        "return [...document.querySelectorAll('audio')].map(a => [a.duration, a.error === null])"
    )
    assert all(0.05 < seconds < 6.1 and fine for seconds, fine in found)
    # There may be no sound card, so what a player would give it is decoded instead.
    peaks = browser.run(DECODE)
    assert len(peaks) == len(found)
    for (seconds, _), (n_samples, peak) in zip(found, peaks, strict=True):
        assert abs(n_samples / 16_000 - seconds) < 0.01 and 0.01 < peak <= 1


def test_the_result_is_on_the_first_screen(browser, folder):
    browser.resize(1200, 800)
    bottoms = browser.run(
        "return ['#result .lead', '#result table', '#result figure img']"
        ".map(name => document.querySelector(name).getBoundingClientRect().bottom)"
    )
    assert max(bottoms) <= 800
    (folder / "first_screen.png").write_bytes(browser.screenshot(1200, 800))


def test_no_table_needs_a_scroll_bar(browser):
    browser.resize(1200, 800)
    wide = (
        "document.querySelectorAll('details').forEach(part => part.open = arguments[0]);"
        "return [...document.querySelectorAll('.scroll')].filter(part => part.scrollWidth > part.clientWidth + 1)"
        ".map(part => part.textContent.trim().slice(0, 40))"
    )
    assert browser.run(wide, True) == []
    assert browser.run(wide, False) == []


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_its_window(browser, folder, width):
    browser.resize(width, 900)
    over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(over) == 0
    height = browser.run("return document.documentElement.scrollHeight")
    picture = browser.screenshot(width, min(height, 16_000))
    assert picture.startswith(b"\x89PNG") and len(picture) > 50_000
    (folder / f"report_{width}.png").write_bytes(picture)


def test_the_page_prints(browser, folder):
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
    (folder / "report.pdf").write_bytes(pdf)
