"""Files that the browser gets: the sources of the components, and plotly.js itself."""

import os
import shutil
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent

#: Streamlit serves the folder `static` beside the app's script at this path.
SERVED_AT = "app/static"


class AssetError(RuntimeError):
    """A file that the browser needs cannot be put where it is served from."""


def read_asset(name: str) -> str:
    """The text of a file of this package.

    Args:
        name: File name, for instance "live_plot.js".
    """
    return (HERE / name).read_text(encoding="utf-8")


def read_script(*names: str) -> str:
    """Files of this package as one script, without indentation and lines that are comments.

    Streamlit sends a component's script with every change of what it shows, several times a second
    on a live page.

    Args:
        names: File names, in the order in which they run.
    """
    lines = [line.strip() for name in names for line in read_asset(name).splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def publish_plotly_js(folder: Path | None = None) -> str:
    """Puts the plotly.js of the installed plotly package where the server serves it from.

    The file appears complete or not at all, so that several processes may do this at once. One
    that is there already is left alone.

    Args:
        folder: The served folder; by default `static` beside `app.py`.

    Returns:
        The file's address, relative to the app's.

    Raises:
        AssetError: If the file is neither there nor can be put there.
    """
    folder = HERE.parents[1] / "static" if folder is None else folder
    source = _plotly_js()
    target = folder / f"plotly-{_plotly_version()}.min.js"
    address = f"{SERVED_AT}/{target.name}"
    try:
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            return address
        folder.mkdir(parents=True, exist_ok=True)
        _copy_whole(source, target)
    except OSError as error:
        raise AssetError(
            f"got a folder {folder.name!r} that cannot be written to ({error.strerror}), expected "
            f"{target.name} in it; make it writable, or copy plotly's plotly.min.js there "
            "under that name."
        ) from error
    return address


@cache
def _plotly_version() -> str:
    # Read from a file of the package, and asked for by every figure of every redraw.
    return version("plotly")


def _plotly_js() -> Path:
    # Found without importing plotly, which only the figures need.
    spec = find_spec("plotly")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        source = Path(place) / "package_data" / "plotly.min.js"
        if source.is_file():
            return source
    raise AssetError(
        "got no plotly.min.js, expected it in the plotly package; "
        "install the versions of requirements.txt."
    )


def _copy_whole(source: Path, target: Path) -> None:
    """Copies under a name of its own first: a rename within a folder happens at once."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out, source.open("rb") as data:
            shutil.copyfileobj(data, out)
        # A temporary file is private to its owner; the server may run as somebody else.
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
