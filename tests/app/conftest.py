"""A server of the app for browser tests, with a data folder of its own."""

import pytest
from playwright.sync_api import expect, sync_playwright

from benchmarks.serving import Server
from tests.support.browser import launch, require_chromium

# A page waits for imports the first time, and a busy machine is several times slower.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    require_chromium()
    with Server(tmp_path_factory.mktemp("data")) as started:
        yield started


@pytest.fixture
def page(server):
    with sync_playwright() as playwright:
        browser = launch(playwright)
        opened = browser.new_page(viewport={"width": 1366, "height": 768})
        opened.errors = []
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))
        yield opened
        browser.close()
