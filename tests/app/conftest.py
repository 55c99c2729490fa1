"""A server of the app for browser tests, and one without a browser, each with data of its own."""

from contextlib import suppress

import pytest
from playwright.sync_api import Error, expect, sync_playwright
from streamlit import config

from benchmarks.report import ROOT
from benchmarks.serving import Server
from jdviz import server as app_server
from jdviz.arguments import Arguments
from jdviz.training.pool import WorkerPool
from tests.support.browser import launch, require_chromium

# A page waits for imports the first time, and a busy machine is several times slower.
expect.set_options(timeout=60_000)


@pytest.fixture(autouse=True, scope="session")
def project_options():
    """The options of `.streamlit/config.toml`, as the server of the app has them.

    Streamlit reads them once per process, from the folder it is in when an option is first asked
    for; a test that goes to a folder of its own before would leave every later one without them.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        config.get_config_options(force_reparse=True)


@pytest.fixture
def app_data(tmp_path, monkeypatch):
    """A data folder of the test's own, behind pages opened with `tests.support.pages.open_page`."""
    folder = tmp_path / "data"
    monkeypatch.setenv("JDVIZ_DATA", str(folder))
    monkeypatch.setenv("JDVIZ_WORKERS", "1")
    monkeypatch.delenv("JDVIZ_PROBLEMS", raising=False)
    owned = (app_server.store, app_server.pool, app_server.lab)
    for cached in owned:
        cached.clear()
    made = []

    def remembered(*given, **named):
        # No test waits for a worker to be warm.
        made.append(WorkerPool(*given, **named, warm=False))
        return made[-1]

    monkeypatch.setattr(app_server, "WorkerPool", remembered)
    monkeypatch.setattr(app_server, "_chosen", Arguments())
    yield folder
    for pool in made:
        pool.close()
    for cached in owned:
        cached.clear()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    require_chromium()
    with Server(tmp_path_factory.mktemp("data")) as started:
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Add to a failure what the browser showed, and the end of what its server said."""
    report = yield
    opened, started = (item.funcargs.get(name) for name in ("page", "server"))
    if report.when == "call" and report.failed and opened is not None and started is not None:
        with suppress(Error):
            report.sections.append(("page", f"{opened.url}\n{opened.inner_text('body')}"))
        said = (started.data / "server.log").read_text("utf-8", "replace")
        report.sections.append(("server", said[-4000:]))
    return report


@pytest.fixture
def page(server):
    with sync_playwright() as playwright:
        browser = launch(playwright)
        opened = browser.new_page(viewport={"width": 1366, "height": 768})
        opened.errors = []
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))
        yield opened
        browser.close()
