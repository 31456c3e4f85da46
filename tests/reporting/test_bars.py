"""Grouped bars: every number is drawn where it belongs, and the legend is whole."""

import pytest

from jaxdefense.errors import InputError
from jaxdefense.reporting import Bar, bars

BARS = [
    Bar("FGSM", "AE", {"oblivious": (0.9, 0.8, 0.95), "white-box": (0.2, 0.1, 0.3)}, 0.93),
    Bar("PGD", "AE", {"oblivious": (0.8, 0.7, 0.9), "white-box": (0.0, 0.0, 0.1)}),
]


def test_heights_are_percent_and_printed_numbers_lines():
    (axes,) = bars({"Fingers": BARS}).axes
    assert sorted(bar.get_height() for bar in axes.patches) == [0.6, 20, 80, 90]  # 0 is to be seen
    assert [label.get_text() for label in axes.get_xticklabels()] == ["FGSM", "PGD"]
    assert any(s[0][1] == pytest.approx(93) for c in axes.collections for s in c.get_segments())


def test_the_legend_lies_inside_the_figure():
    figure = bars({"Fingers": BARS})
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert [text.get_text() for text in legend.get_texts()] == [
        "AE", "pale: oblivious", "full: white-box", "printed in the paper",
    ]  # fmt: skip


def test_the_last_way_is_full_whichever_bar_comes_first():
    clean = Bar("clean", "AE", {"white-box": (0.9, 0.8, 0.95)})
    (legend,) = bars({"Fingers": [clean, *BARS]}).legends
    assert [text.get_text() for text in legend.get_texts()][1:3] == [
        "pale: oblivious", "full: white-box",
    ]  # fmt: skip


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="no bars"):
        bars({"Fingers": []})
