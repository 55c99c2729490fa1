"""What holds for all tests: nothing is written to the user's own folders."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Rates, plans and runs of the tests are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JDVIZ_CACHE", str(tmp_path_factory.mktemp("cache")))
        patched.setenv("JDVIZ_DATA", str(tmp_path_factory.mktemp("data")))
        yield
