"""The methods of a step and the parts of its memory are told apart in both themes."""

from itertools import combinations

import pytest

from jdviz.figures.styles import ENGINE_STYLES, OWNER_STYLES, engine_style
from jdviz.figures.theme import PALETTES, Theme, contrast
from jdviz.profiling.results import OWNERS
from jdviz.profiling.spec import METHOD_LABELS, STEP_METHODS

THEMES: tuple[Theme, ...] = ("light", "dark")


def test_every_method_and_owner_has_a_style() -> None:
    assert tuple(ENGINE_STYLES) == STEP_METHODS
    assert {method: style.label for method, style in ENGINE_STYLES.items()} == METHOD_LABELS
    assert tuple(OWNER_STYLES) == OWNERS
    with pytest.raises(ValueError, match="got method 'none', expected one of fused, two-pass"):
        engine_style("none", "light")


@pytest.mark.parametrize("theme", THEMES)
def test_styles_are_seen_and_told_apart(theme: Theme) -> None:
    for styles in (ENGINE_STYLES, OWNER_STYLES):
        for style in styles.values():
            assert contrast(style.colors[theme], PALETTES[theme].background) >= 3.0
        for one, other in combinations(styles.values(), 2):
            assert one.colors[theme] != other.colors[theme]
            assert one.hatch != other.hatch
    assert len({style.symbol for style in ENGINE_STYLES.values()}) == len(ENGINE_STYLES)


def test_families_share_their_dash() -> None:
    assert {method: style.dash for method, style in ENGINE_STYLES.items()} == {
        "fused": "solid",
        "two-pass": "solid",
        "autojac": "dash",
        "sgd": "dot",
        "torchjd two-pass": "dashdot",
        "torchjd autojac": "longdashdot",
    }
