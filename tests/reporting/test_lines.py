import numpy as np
import pytest

from jaxdefense.errors import InputError
from jaxdefense.reporting import Line, line_panels, overlay, scatter_panels


def test_lines_share_looks_and_leave_out_what_is_not_there():
    line = Line([0.5, np.nan, 1.0], [0.4, np.nan, 0.9])
    fig = line_panels({"a": {"x": line}, "b": {"y": line, "x": line}}, ("sure", "right"), 2, True)
    first, second = fig.axes
    assert list(first.lines[0].get_xdata()) == [0, 1]  # the diagonal
    assert list(first.lines[1].get_ydata()) == [0.4, 0.9]
    assert first.lines[1].get_color() == second.lines[2].get_color() != second.lines[1].get_color()
    assert first.get_xlim() == second.get_ylim() == (0, 1)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["x", "y"]
    assert (first.get_xlabel(), first.get_ylabel(), second.get_ylabel()) == ("sure", "right", "")


def test_a_band_is_drawn_where_both_ends_are_given():
    bare, band = Line([0, 1], [1, 2]), Line([0, 1], [1, 2], [0, 1], [2, 3])
    fig = line_panels({"a": {"x": bare}, "b": {"x": band}}, ("", ""))
    assert [len(axes.collections) for axes in fig.axes] == [0, 1]


def test_points_of_a_set_look_the_same_in_all_panels():
    points = np.random.default_rng(0).normal(size=(7, 2))
    fig = scatter_panels({"a": {"clean": points, "PGD": -points}, "b": {"PGD": points}})
    (_, there), (here,) = (axes.lines for axes in fig.axes)
    assert there.get_color() == here.get_color()
    np.testing.assert_allclose(here.get_xydata(), points)
    assert here.get_linestyle() == "None"


def test_heat_colours_an_image_and_no_heat_darkens_it_evenly():
    x, heat = np.full((2, 4, 4, 1), 0.6), np.zeros((2, 4, 4))
    heat[1, 2, 3] = 1
    found = overlay(x, heat, share=0.5)
    assert found.shape == (2, 4, 4, 3)
    assert (found[0] == found[0, 0, 0]).all()
    assert found[1, 2, 3].sum() > found[1, 0, 0].sum() + 0.5
    np.testing.assert_allclose(overlay(x, heat, share=0.0), 0.6)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="no line to draw"):
        line_panels({"a": {}}, ("", ""))
    with pytest.raises(InputError, match="not \\[n, 2\\]"):
        scatter_panels({"a": {"x": np.zeros((3, 3))}})
    with pytest.raises(InputError, match="heat of shape"):
        overlay(np.zeros((1, 4, 4, 1)), np.zeros((1, 2, 2)))
