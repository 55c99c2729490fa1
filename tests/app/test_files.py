"""The files of a figure: pictures made in the browser, and what stands beside them in the fold."""

from pathlib import Path

import pytest

PNG = b"\x89PNG\r\n\x1a\n"


def open_fold(page, url):
    page.goto(url)
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.get_by_text("Numbers, code and files").first.click()
    page.get_by_role("button", name="Save as PNG").first.wait_for()


def saved(page, name):
    """The file that a button gives, pressed by the keyboard."""
    page.get_by_role("button", name=f"Save as {name}").first.focus()
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


@pytest.mark.browser
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("theme", "background"), [("light", "#FFFFFF"), ("dark", "#14181D")])
def test_a_figure_is_saved_as_it_is_on_the_screen(page, server, theme, background):
    page.emulate_media(color_scheme=theme)
    open_fold(page, server.url)
    name, drawing = saved(page, "SVG")
    assert name == "jdviz-overview.svg"
    text = drawing.decode("utf-8")
    assert text.startswith("<svg")
    assert "Cosines of the gradients" in text
    red, green, blue = (int(background[place : place + 2], 16) for place in (1, 3, 5))
    assert f"fill: rgb({red}, {green}, {blue})" in text[: text.index("<defs")]
    name, picture = saved(page, "PNG")
    assert name == "jdviz-overview.png"
    assert picture.startswith(PNG)
    assert page.errors == []
