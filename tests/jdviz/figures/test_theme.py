"""Colours: the same in both of their places, enough contrast, and nowhere else."""

import re
import tomllib
from itertools import combinations
from pathlib import Path

import pytest

from engines.aggregation import METHODS
from jdviz.figures import theme as looks
from jdviz.figures.theme import PALETTES, Theme, contrast

ROOT = Path(__file__).parents[3]
THEMES: tuple[Theme, ...] = ("light", "dark")
COLOR = re.compile(r"""#[0-9A-Fa-f]{3,8}\b|\b(?:rgb|hsl)a?\(""")


@pytest.fixture(params=THEMES)
def theme(request: pytest.FixtureRequest) -> Theme:
    return request.param


@pytest.fixture(scope="module")
def config() -> dict:
    return tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


def test_config_has_the_same_colours(config: dict, theme: Theme) -> None:
    settings, palette = config["theme"][theme], PALETTES[theme]
    assert settings["backgroundColor"] == palette.background
    assert settings["secondaryBackgroundColor"] == palette.surface
    assert settings["textColor"] == palette.text
    assert settings["grayColor"] == palette.muted
    assert settings["primaryColor"] == palette.accent
    assert tuple(settings["chartCategoricalColors"]) == palette.categorical
    assert tuple(settings["chartSequentialColors"]) == palette.sequential
    assert tuple(settings["chartDivergingColors"]) == palette.diverging
    assert len(palette.sequential) == len(palette.diverging) == 10


def test_config_designs_both_themes_alike(config: dict) -> None:
    assert set(config["theme"]["light"]) == set(config["theme"]["dark"])


def test_config_of_the_server(config: dict) -> None:
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["showEmailPrompt"] is False
    assert config["server"]["fileWatcherType"] == "none"
    assert config["server"]["enableStaticServing"] is True
    assert config["browser"]["gatherUsageStats"] is False
    assert config["client"]["showErrorDetails"] in {"type", "none"}
    assert "://" not in (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8")


def test_config_has_only_options_of_streamlit(config: dict) -> None:
    from streamlit import config as streamlit_config

    known = set(streamlit_config.get_config_options())

    def options(table: dict, prefix: str) -> list[str]:
        found = []
        for key, value in table.items():
            name = f"{prefix}.{key}" if prefix else key
            found += options(value, name) if isinstance(value, dict) else [name]
        return found

    assert set(options(config, "")) <= known


def test_words_have_contrast(config: dict, theme: Theme) -> None:
    palette = PALETTES[theme]
    for ground in (palette.background, palette.surface):
        assert contrast(palette.text, ground) >= 4.5
        assert contrast(palette.muted, ground) >= 4.5
        for name, color in config["theme"][theme].items():
            if name in {"linkColor", "codeTextColor"} or re.fullmatch(r"[a-z]+Color", name):
                if name in {"backgroundColor", "borderColor", "primaryColor"}:
                    continue
                assert contrast(color, ground) >= 4.5, name
    # Streamlit writes in white on a primary button, whatever its colour.
    assert contrast("#FFFFFF", palette.accent) >= 4.5


def test_marks_have_contrast(theme: Theme) -> None:
    palette = PALETTES[theme]
    marks = [
        *palette.categorical,
        *palette.sequential[palette.first_mark :],
        palette.accent,
        palette.positive,
        palette.negative,
        palette.line,
        *(color for m in (1, 7, 8, 64) for color in looks.objective_colors(m, theme)),
    ]
    for color in marks:
        assert contrast(color, palette.background) >= 3.0, color
    assert contrast(palette.cone, palette.background) >= 3.0


def test_numbers_in_cells_have_contrast(theme: Theme) -> None:
    values = [index / 100 for index in range(-100, 101)]
    for color in looks.diverging_colors(values, 1.0, theme):
        assert contrast(looks.ink_on(color, theme), color) >= 4.5, color


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21.0)
    # The grey that is known to be just enough for words on white.
    assert contrast("#767676", "#FFFFFF") == pytest.approx(4.54, abs=0.005)


def test_diverging_scale_is_centred(theme: Theme) -> None:
    scale = looks.diverging_scale(theme)
    places = [place for place, _ in scale]
    assert places[0] == 0.0
    assert places[-1] == 1.0
    assert scale[len(scale) // 2] == [0.5, PALETTES[theme].background]
    assert looks.diverging_colors([0.0, -2.0, 2.0], 1.0, theme) == (
        PALETTES[theme].background,
        PALETTES[theme].diverging[0],
        PALETTES[theme].diverging[-1],
    )


def test_neighbouring_objectives_differ(theme: Theme) -> None:
    assert looks.objective_colors(3, theme) == looks.objective_colors(7, theme)[:3]
    for m in (7, 8, 64):
        assert len(set(looks.objective_colors(m, theme))) == m
    styles = zip(looks.objective_colors(7, theme), looks.objective_dashes(7), strict=True)
    for (color, dash), (other, other_dash) in combinations(styles, 2):
        assert color != other or dash != other_dash
    with pytest.raises(ValueError, match="m=-1"):
        looks.objective_colors(-1, theme)


def test_methods_differ_by_colour_and_dash(theme: Theme) -> None:
    styles = [looks.numbered_style(index, theme) for index in range(48)]
    assert len({(style.color, style.dash) for style in styles}) == 48
    assert len({style.color for style in styles[:8]}) == 8
    for index, name in enumerate(METHODS):
        assert looks.method_style(name, theme) == styles[index]
    with pytest.raises(ValueError, match="expected one of"):
        looks.method_style("no method", theme)


def test_methods_of_one_figure_have_colours_of_their_own(theme: Theme) -> None:
    colors, names = PALETTES[theme].categorical, list(METHODS)
    # The second of each pair has the colour of the first in the registry.
    chosen = [names[0], names[1], names[len(colors)], names[len(colors) + 1]]
    styles = looks.method_styles(chosen, theme)
    assert list(styles) == chosen
    assert len({style.color for style in styles.values()}) == 4
    for name in chosen[:2]:
        assert styles[name] == looks.method_style(name, theme)
    assert looks.method_styles([names[len(colors)]], theme)[names[len(colors)]].color == colors[0]
    everything = looks.method_styles(names, theme)
    first = [everything[name].color for name in names[: looks.DISTINCT_METHODS]]
    assert sorted(first) == sorted(colors)
    rest = {everything[name].color for name in names[looks.DISTINCT_METHODS :]}
    assert rest == {PALETTES[theme].muted}


def test_shown_config() -> None:
    assert looks.CONFIG["displayModeBar"] == "hover"
    assert looks.CONFIG["showSendToCloud"] is False
    assert looks.CONFIG["toImageButtonOptions"]["format"] == "svg"


def test_no_colour_outside_the_theme() -> None:
    found = []
    for folder in ("figures", "components", "pages"):
        for path in sorted((ROOT / "jdviz" / folder).rglob("*")):
            if path.suffix not in {".py", ".js", ".css", ".html"} or path.name == "theme.py":
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [f"{path.name}:{n}" for n, line in enumerate(lines, 1) if COLOR.search(line)]
    assert not found
