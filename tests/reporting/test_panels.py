import pytest

from jaxdefense.errors import InputError
from jaxdefense.reporting import curve_panels


def test_panels_share_looks_scale_and_one_legend(record):
    curve = [record(eps=eps, value=0.5) for eps in (0.2, 0.0, 0.1)]
    panels = {"FGSM": {"C": curve, "AE-C": curve}, "PGD": {"AE-C": curve}}
    fig = curve_panels(panels, columns=2, chance=0.1)
    first, second = fig.axes
    assert [axes.get_title() for axes in fig.axes] == ["FGSM", "PGD"]
    assert first.get_ylim() == second.get_ylim() == (0, 100)
    assert first.lines[1].get_color() == second.lines[0].get_color()
    assert first.lines[0].get_color() != first.lines[1].get_color()
    assert list(first.lines[0].get_xdata()) == [0.0, 0.1, 0.2]
    labels = [text.get_text() for text in fig.legends[0].get_texts()]
    assert labels == ["C", "AE-C", "chance (10 %)"]


def test_only_the_lowest_panel_of_a_column_names_the_radius(record):
    panels = {str(i): {"C": [record()]} for i in range(3)}
    named = [bool(axes.get_xlabel()) for axes in curve_panels(panels, columns=2).axes]
    assert named == [False, True, True]


def test_no_curve_is_refused():
    with pytest.raises(InputError, match="no curve to draw"):
        curve_panels({"FGSM": {}})


def test_a_norm_may_exceed_one_but_an_accuracy_may_not(record):
    nothing = {"low": float("nan"), "high": float("nan")}
    assert record(metric="median l2 norm", value=1.7, **nothing).value == 1.7
    with pytest.raises(InputError, match="fraction"):
        record(value=1.7, **nothing)


def ticks(fig):
    return [text.get_text() for text in fig.axes[0].get_xticklabels()]


def test_radii_that_count_8_bit_steps_have_ticks_that_do(record):
    panels = lambda *eps: {"PGD": {"C": [record(eps=e, value=0.5) for e in eps]}}
    assert ticks(curve_panels(panels(0, 20 / 255, 80 / 255))) == [
        "0",
        *(f"{n}/255" for n in (20, 40, 60, 80)),
    ]
    # 0.2 is 51/255 too, but not meant so
    assert not any("255" in text for text in ticks(curve_panels(panels(0, 0.2, 0.4))))
    # nor is a grid with other radii
    assert not any("255" in text for text in ticks(curve_panels(panels(0, 8 / 255, 0.1))))
