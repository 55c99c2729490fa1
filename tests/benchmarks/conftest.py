import pytest

from benchmarks.cases import look_up


@pytest.fixture(autouse=True)
def _nothing_is_known():
    """What one test was told of a problem is no other's business."""
    look_up.cache_clear()
