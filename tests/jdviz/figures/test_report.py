from pathlib import Path

import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from jdviz.figures import Section, html_report, peak_split_bars
from jdviz.figures.theme import PALETTES
from tests.jdviz.figures.lab import measurements
from tests.support.browser import launch, require_chromium

BAD = '</script><img src=x onerror=alert(1)> & "quotes"'


def report() -> str:
    figure = peak_split_bars(measurements(), "light")
    figure.data[0].name = BAD
    sections = [
        Section("Peaks", "autojac needs more.", figure, pd.DataFrame({"a": ["1.00 MiB"]})),
        Section(BAD, BAD, figure),
        Section("Words", "Only words.", None, pd.DataFrame({BAD: [BAD]}, index=[BAD])),
    ]
    return html_report(BAD, sections, {"torch": "2.13.0", BAD: BAD}, [BAD])


def test_one_file_with_one_plotly() -> None:
    text = report()
    assert text.count(get_plotlyjs()) == 1
    rest = text.replace(get_plotlyjs(), "")
    assert rest.count("Plotly.newPlot(") == 2
    assert "://" not in rest
    assert '"showSendToCloud": false' in rest
    assert '"format": "svg"' in rest
    assert PALETTES["light"].background in rest
    assert PALETTES["dark"].background not in rest


def test_what_others_wrote_is_words() -> None:
    rest = report().replace(get_plotlyjs(), "")
    assert "<img" not in rest
    assert rest.count("</script>") == 3
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt; &amp; " in rest


def test_words_alone_need_no_plotly() -> None:
    text = html_report("Report", [Section("One", "Nothing is measured.")], {})
    assert "<script" not in text
    assert "Measured with" not in text
    assert len(text) < 3000


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_it_draws_without_a_network(tmp_path: Path) -> None:
    require_chromium()
    from playwright.sync_api import sync_playwright

    file = tmp_path / "report.html"
    file.write_text(report(), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.on("console", lambda note: errors.append(note.text) if note.type == "error" else None)
        page.goto(file.as_uri())
        page.wait_for_selector("#figure-1 .barlayer .bars")
        assert page.locator(".main-svg").count() >= 2
        assert page.title() == BAD
        assert asked == [file.as_uri()]
        assert errors == []
        browser.close()
