"""What a stranger can send: nothing of it is executed, is markup, or reaches the file system."""

import http.client
import io
import json
import pickle
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from plotly import graph_objects as go

from jdviz import server
from jdviz.figures import figure_csv, figure_html
from jdviz.figures.plain import figure_json, without_formulas
from jdviz.runs.outputs import csv_bytes, series_columns
from jdviz.runs.transfer import TransferError, export_bytes, import_bytes
from jdviz.runs.uploads import UploadError, read_matrix
from jdviz.training.record import StepRecord
from tests.support.pages import open_page

LINK = '<a href="https://evil.example/x">free</a>'
STYLE = '<span style="fill:url(https://evil.example/y)">s</span>'
SCRIPT = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
MARKDOWN = "[free](https://evil.example/z) ![pic](https://evil.example/p.png)"
HOSTILE = (LINK, STYLE, SCRIPT, MARKDOWN)
PATHS = ("../../etc/passwd", "/etc/passwd", "..\\..\\secrets", "a'; DROP TABLE runs; --", "\x00")


@pytest.fixture
def hostile_run(app_data, monkeypatch):
    """A run of another visitor's, published, every text of which is an attack."""
    monkeypatch.setattr(server, "is_shared", lambda: True)
    store = server.store()
    run_id = store.create_run(
        {"problem": LINK, "aggregator": SCRIPT, "engine": MARKDOWN, STYLE: MARKDOWN, "seed": 0},
        name=" ".join(HOSTILE),
        source="recorder",
        owner="somebody else",
        objectives=HOSTILE[:3],
    )
    rows = np.array([[1.0, 0.0], [-0.5, 1.0], [-1.0, -1.0]])
    for number in range(3):
        gramian = rows @ rows.T
        shares = {LINK: gramian / 2, MARKDOWN: gramian / 2}
        store.append(run_id, [record(number, gramian, shares)])
    store.annotate(run_id, tags=[LINK, MARKDOWN], notes="\n".join(HOSTILE), published=True)
    store.set_status(run_id, "failed", message=" ".join(HOSTILE))
    return run_id


def record(number, gramian, shares):
    return StepRecord(
        step=number,
        time_s=0.1 * number,
        losses=np.array([3.0, 2.0, 1.0]) / (number + 1),
        gramian=gramian,
        weights=np.full(3, 1 / 3),
        inner=gramian @ np.full(3, 1 / 3),
        direction_norm=1.0,
        sample_ids=None,
        elapsed_s=0.1,
        peak_bytes=None,
        scalars={LINK: 1.0, "=1+1": 2.0},
        shares=shares,
    )


# What Markdown would make a link, a picture or a tag of; an escaped bracket is none of them.
LIVE = re.compile(
    r"(?<!\\)\]\(|(?<!\\)!\[|(?<!\\)<(?:a|img|script|span)\b|(?<![\\\w])https?://evil"
)
#: Elements whose text Streamlit reads as Markdown.
SPOKEN = ("markdown", "caption", "info", "warning", "error", "success", "expander", "tab", "toast")


def spoken(app):
    """Every text of a page that is read as Markdown, labels of controls and cells of tables too."""
    found = [one.value for kind in SPOKEN[:6] for one in app.get(kind)]
    found += [one.label for kind in ("expander", "tab") for one in app.get(kind)]
    for kind in ("button", "checkbox", "radio", "selectbox", "multiselect", "toggle", "text_input"):
        found += [one.label for one in app.get(kind)]
    for table in app.table:
        value = table.value
        found += [str(cell) for cell in value.to_numpy().ravel()]
        found += [str(name) for name in (*value.columns, *value.index)]
    return [text for text in found if text]


ADDRESSES = (
    ("runs", {"r_runs": "{}", "r_view": "Overlay"}),
    ("runs", {"r_runs": "{}", "r_view": "Δ%"}),
    ("runs", {"r_runs": "{}", "r_view": "Seeds"}),
    ("runs", {"r_runs": "{}", "r_view": "One run"}),
    ("train", {"t_run": "{}"}),
    ("lens", {"l_run": "{}"}),
    ("directions", {"d_run": "{}"}),
)


@pytest.mark.parametrize(("key", "query"), ADDRESSES)
def test_no_text_of_a_published_run_is_markup(hostile_run, key, query):
    app = open_page(key, **{name: value.format(hostile_run) for name, value in query.items()})
    assert not app.exception
    assert [text for text in spoken(app) if LIVE.search(text)] == []
    figures = [json.loads(one.proto.json).get("figure", "") for one in app.get("bidi_component")]
    assert [figure for figure in figures if re.search(r"u003c(a|span|img|script)\b", figure)] == []
    # The run was really on the page.
    everything = "".join(spoken(app)) + "".join(figures)
    everything += "".join(frame.value.to_csv() for frame in app.dataframe)
    assert "evil" in everything


@pytest.mark.parametrize("text", [LINK, SCRIPT, MARKDOWN, PATHS[0], PATHS[-1], "9" * 5000])
@pytest.mark.usefixtures("app_data")
def test_what_stands_in_an_address_is_said_without_effect(text):
    names = {
        "runs": ("r_runs", "r_q", "r_series", "r_base", "r_one", "r_view"),
        "train": ("t_run", "t_problem", "t_batch", "t_look", "t_at"),
        "lens": ("l_run", "l_step", "l_pair", "l_view", "l_k"),
        "directions": ("d_run", "d_step", "d_view", "d_m", "d_a1", "d_methods"),
        "engines": ("e_problem", "e_size", "e_view", "e_batch"),
        "tour": ("u_lesson", "u_guess", "u_angle"),
        "trajectories": ("p_problem", "p_methods", "p_view", "p_cqf_rate", "p_cqf_x1"),
    }
    for key, wanted in names.items():
        app = open_page(key, **dict.fromkeys((*wanted, "hide", "lock"), text))
        assert not app.exception
        assert [said for said in spoken(app) if LIVE.search(said)] == []


def test_a_figure_keeps_its_own_markup_and_no_other():
    figure = go.Figure(go.Scatter(x=[1, 2], y=[0.5, 1], name=LINK, text=[STYLE, "p < 0.5"]))
    figure.update_layout(title="<b>bold</b><br>a<sub>i</sub>", template=None)
    figure.update_traces(hovertemplate="%{y}<extra></extra>")
    shown = json.loads(figure_json(figure))
    (trace,) = shown["data"]
    assert trace["name"] == '&lt;a href="https://evil.example/x">free&lt;/a>'
    assert trace["text"][0].startswith("&lt;span")
    assert trace["text"][1] == "p &lt; 0.5"
    assert trace["hovertemplate"] == "%{y}<extra></extra>"
    assert shown["layout"]["title"]["text"] == "<b>bold</b><br>a<sub>i</sub>"


def test_an_exported_page_runs_no_name():
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2], name=SCRIPT), layout={"template": None})
    page = figure_html(figure, SCRIPT, LINK)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<a href" not in page.split("</head>")[1]
    assert "default-src 'none'" in page


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_name_is_a_formula_in_a_spreadsheet(begin):
    attack = f"{begin}HYPERLINK(A1)"
    figure = go.Figure(go.Bar(x=[attack, "b"], y=[-1.0, 2.0], name=attack))
    rows = list(pd.read_csv(io.StringIO(figure_csv(figure)), header=None, dtype=str).to_numpy())
    cells = [str(cell) for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(begin) and cell != "-1.0"]
    # Space around a name is taken away first.
    assert f"'{attack}" in cells or (begin.isspace() and "HYPERLINK(A1)" in cells)


def test_numbers_stay_numbers_where_formulas_are_taken_away():
    table = pd.DataFrame({"x": [-1.5, 2.0]}, index=["-a", "b"])
    harmless = without_formulas(table)
    assert harmless["x"].tolist() == [-1.5, 2.0]
    assert harmless.index.tolist() == ["'-a", "b"]


def test_no_column_of_a_run_is_a_formula(hostile_run):
    text = csv_bytes(series_columns(server.store(), hostile_run)).decode()
    header = next(iter(pd.read_csv(io.StringIO(text), nrows=0).columns))
    assert header == "step"
    names = pd.read_csv(io.StringIO(text), nrows=0).columns
    assert not [name for name in names if name[:1] in "=+-@\t\r"]
    assert "scalar[=1+1]" in names


class Attack:
    """Would make a file if it were unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (open, (self.target, "w"))


def pickled_array(attack):
    data = io.BytesIO()
    np.save(data, np.array([[attack]], dtype=object), allow_pickle=True)
    return data.getvalue()


def archive_of(member, name="G.npy"):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, member)
    return data.getvalue()


@pytest.mark.parametrize(
    "wrap", [pickled_array, lambda a: archive_of(pickled_array(a)), pickle.dumps]
)
def test_an_upload_is_never_unpickled(tmp_path, wrap):
    target = tmp_path / "made"
    with pytest.raises(UploadError):
        read_matrix(wrap(Attack(target)))
    assert not target.exists()


def test_an_archive_is_never_unpacked_to_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = io.BytesIO()
    np.save(data, np.eye(2))
    matrix = read_matrix(archive_of(data.getvalue(), "../../escaped.npy"))
    assert matrix.values.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent.parent / "escaped.npy").exists()


def test_an_imported_run_takes_neither_identifier_nor_owner_from_its_file(hostile_run):
    store = server.store()
    content = export_bytes(store, hostile_run)
    run_id = import_bytes(store, content, owner="me")
    run = store.run(run_id)
    assert run_id != hostile_run
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{16}", run_id)
    assert (run.owner, run.published, run.source) == ("me", False, "import")


def test_a_database_with_code_in_it_is_refused(hostile_run, tmp_path):
    import sqlite3

    path = tmp_path / "run.jdviz"
    path.write_bytes(export_bytes(server.store(), hostile_run))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT load_extension('evil'); END"
        )
    with pytest.raises(TransferError, match="other tables"):
        import_bytes(server.store(), path.read_bytes())


@pytest.mark.parametrize("path", PATHS)
def test_a_name_that_looks_like_a_path_names_no_file(app_data, path):
    before = sorted(one.name for one in app_data.rglob("*")) if app_data.exists() else []
    assert server.find_run(path) is None
    run_id = server.store().create_run({"problem": path}, name=path)
    assert server.store().run(run_id).name == path
    made = {one.name for one in app_data.rglob("*")} - set(before)
    assert made <= {"runs.sqlite", "runs.sqlite-wal", "runs.sqlite-shm", "runs.sqlite-journal"}


@pytest.mark.usefixtures("app_data")
def test_a_run_of_somebody_else_is_neither_seen_nor_changed(monkeypatch):
    monkeypatch.setattr(server, "is_shared", lambda: True)
    store = server.store()
    hidden = store.create_run({"problem": "own"}, name="s3cret", owner="somebody else")
    store.append(hidden, [record(0, np.eye(3), {"layer": np.eye(3)})])
    for published in (False, True):
        store.annotate(hidden, published=published)
        for key, name in (("runs", "r_runs"), ("lens", "l_run")):
            app = open_page(key, **{name: hidden})
            everything = "".join(spoken(app)) + "".join(str(one.options) for one in app.selectbox)
            everything += "".join(frame.value.to_csv() for frame in app.dataframe)
            assert ("s3cret" in everything) is published, key
        app = open_page("runs", r_runs=hidden)
        assert [one.key for one in app.button if one.key and one.key.endswith(":save")] == []
        assert app.button(key="runs:delete").disabled


# A browser would tidy these paths up before it asked for them.
OUTSIDE = (
    "/app/static/../app.py",
    "/app/static/%2e%2e/app.py",
    "/app/static/..%2fapp.py",
    "/app/static/..%5capp.py",
    "/app/static//etc/passwd",
    "/app/static/%2fetc%2fpasswd",
    "/../app.py",
    "/media/../../app.py",
    "/_stcore/../app.py",
    "/.streamlit/config.toml",
    "/app/static/../.streamlit/config.toml",
)


@pytest.mark.browser
def test_the_server_gives_no_file_outside_its_static_folder(server):
    address = server.url.removeprefix("http://")
    for path in OUTSIDE:
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.putrequest("GET", path, skip_host=False)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
        connection.close()
        assert "st.navigation" not in body, path
        assert "root:" not in body, path
        assert "gatherUsageStats" not in body, path
