import math

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxdefense.errors import InputError
from jaxdefense.reporting import (
    curve,
    difference,
    image_grid,
    robustness_curves,
    save,
    training_curves,
    verdict,
)

IMAGES = np.linspace(0, 1, 3 * 4 * 4).reshape(3, 4, 4, 1)


def legend(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def drawn(fig):
    """The figure laid out as it is saved, with a renderer to measure it."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return canvas.get_renderer()


def test_one_panel_per_knowledge(grid):
    fig = robustness_curves(grid, chance=0.1)
    assert [axes.get_title() for axes in fig.axes] == [
        "Random noise: Gaussian",
        "Oblivious attacker",
        "White-box attacker",
    ]
    assert [axes.get_xlabel() for axes in fig.axes] == [
        "sigma (pixels in [0, 1])",
        "eps (l-inf, pixels in [0, 1])",
        "eps (l-inf, pixels in [0, 1])",
    ]
    assert fig.axes[0].get_ylabel() == "Accuracy (%)"
    assert {axes.get_ylim() for axes in fig.axes} == {(0, 100)}
    assert legend(fig) == ["no defence", "AE", "FGSM", "PGD-40", "chance (10 %)"]


def test_every_panel_has_data_and_the_undefended_model(grid):
    fig = robustness_curves(grid)
    # 2 defences under noise; under 2 attacks elsewhere, the undefended model on both sides
    assert [len(axes.lines) for axes in fig.axes] == [2, 4, 4]
    assert all(len(line.get_xdata()) for axes in fig.axes for line in axes.lines)
    only = [r for r in grid if r.knowledge != "oblivious" and r.norm != "sigma"]
    assert [axes.get_title() for axes in robustness_curves(only).axes] == ["White-box attacker"]


def test_clean_accuracy_is_the_point_at_zero_if_it_was_measured_on_the_same_examples(record):
    clean = record(attack="none", knowledge="none", eps=0.0, value=0.9, high=0.95)
    (line,) = robustness_curves([clean, record()]).axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[0, 90], [0.1, 50]])
    (line,) = robustness_curves([clean, record(n=50)]).axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[0.1, 50]])


def test_interval_band_and_order_of_points(record):
    axes = Figure().add_subplot()
    records = [record(eps=0.2, value=0.3, low=0.2), record(eps=0.1)]
    assert curve(axes, records) is axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.1, 50], [0.2, 30]])
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(20)
    assert band[:, 1].max() == pytest.approx(60)


def test_curves_differ_without_colour(grid):
    lines = robustness_curves(grid).axes[2].lines
    assert len({(line.get_marker(), str(line._dash_pattern)) for line in lines}) == 4
    assert len({line.get_marker() for line in lines}) == 2


def test_norms_and_other_attackers_get_panels_of_their_own(grid, record):
    more = [record(norm="l2", eps=1.0), record(knowledge="transfer")]
    titles = [axes.get_title() for axes in robustness_curves(grid + more).axes]
    assert titles == [
        "Random noise: Gaussian",
        "Oblivious attacker",
        "Transfer attacker: FGSM",
        "White-box attacker",
        "White-box attacker: FGSM",
    ]


@pytest.mark.parametrize("model", ["ResNet", "a model with quite a long name"])
def test_legend_is_inside_the_figure_and_covers_no_panel(grid, record, model):
    other = [record(model=model, defence=d) for d in ("U-AE", "PuVAE")]
    fig = robustness_curves(grid + other, chance=0.1)
    box = fig.legends[0].get_window_extent(drawn(fig))
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.width
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in fig.axes)


def test_text_is_large_enough(grid):
    fig = robustness_curves(grid, chance=0.1)
    drawn(fig)
    assert min(text.get_fontsize() for text in fig.findobj(matplotlib.text.Text)) >= 8


def test_nothing_to_draw(record):
    unmeasured = record(value=math.nan, low=math.nan, high=math.nan)
    clean = record(attack="none", knowledge="none", eps=0.0)
    for records in ([], [clean], [unmeasured]):
        with pytest.raises(InputError, match="no curve"):
            robustness_curves(records)


def test_style_is_ours_and_theirs_is_left_alone(record):
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20}):
        fig = robustness_curves([record()])
        assert matplotlib.rcParams["font.size"] == 20
    assert fig.axes[0].get_facecolor() == fig.get_facecolor() == (1, 1, 1, 1)


def test_save_writes_both_and_equal_bytes_for_equal_figures(tmp_path, record):
    for name in ("eps-0.3", "again.png"):
        save(robustness_curves([record()]), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.png",
        "again.svg",
        "eps-0.3.png",
        "eps-0.3.svg",
    ]
    for suffix in (".png", ".svg"):
        same = [(tmp_path / f"{name}{suffix}").read_bytes() for name in ("eps-0.3", "again")]
        assert same[0] == same[1]
    with pytest.raises(InputError, match="cannot write"):
        save(Figure(), tmp_path / "missing" / "figure")


def test_image_grid():
    title, change = difference(IMAGES, np.clip(IMAGES + 0.1, 0, 1), gain=4)
    assert title == "difference \N{MULTIPLICATION SIGN}4"
    captions = {"clean": [verdict(7, 7), verdict(7, 3), verdict("Ankle boot", "T-shirt/top")]}
    fig = image_grid({"clean": IMAGES, title: change}, captions, rows=["a", "b", "c"])
    assert len(fig.axes) == 6
    assert [axes.get_title() for axes in fig.axes[:2]] == ["clean", title]
    assert [axes.get_xlabel() for axes in fig.axes[::2]] == [
        "7 → 7",
        "7 → 3 ✗",
        "Ankle boot →\nT-shirt/top ✗",
    ]
    assert [axes.get_ylabel() for axes in fig.axes[::2]] == ["a", "b", "c"]
    # pixels are shown on the scale [0, 1], not stretched to the image's own range
    assert {axes.images[0].get_clim() for axes in fig.axes} == {(0, 1)}
    drawn(fig)
    assert min(text.get_fontsize() for text in fig.findobj(matplotlib.text.Text)) >= 8


def test_difference_is_grey_where_nothing_changed():
    _, change = difference(IMAGES, IMAGES)
    assert np.all(change == 0.5)
    _, change = difference(np.zeros((1, 1, 1, 3)), np.ones((1, 1, 1, 3)))
    assert np.all(change == 1)


@pytest.mark.parametrize(
    ("columns", "captions", "message"),
    [
        ({}, None, "at least 1"),
        ({"a": IMAGES[:0]}, None, "at least 1"),
        ({"a": IMAGES, "b": IMAGES[:2]}, None, "one length"),
        ({"a": IMAGES}, {"a": ["1"]}, "one length"),
        ({"a": IMAGES}, {"b": ["1", "2", "3"]}, "captions for no column"),
        ({"a": IMAGES[..., 0]}, None, "shape"),
        ({"a": 255 * IMAGES}, None, r"outside \[0, 1\]"),
        ({"a": np.full_like(IMAGES, np.nan)}, None, "not finite"),
    ],
)
def test_image_grid_refuses(columns, captions, message):
    with pytest.raises(InputError, match=message):
        image_grid(columns, captions)


def test_training_curves():
    log = [{"step": s, "train_loss": 2 / s, "accuracy": 1 - 1 / s} for s in (1, 2, 3)]
    log[2]["val_loss"] = 0.9
    fig = training_curves({"ResNet": log, "AE": [{"step": 1, "loss": 0.3}]})
    assert [axes.get_ylabel() for axes in fig.axes] == ["loss", "accuracy"]
    assert [axes.get_xlabel() for axes in fig.axes] == ["step", "step"]
    assert legend(fig) == ["ResNet", "AE", "training", "validation"]
    assert [len(line.get_xdata()) for line in fig.axes[0].lines] == [3, 1, 1]


@pytest.mark.parametrize(
    ("metric", "last", "scale"),
    [("loss", 0.001, "log"), ("loss", 0.5, "linear"), ("loss", 0.0, "linear"),
     ("mean_squared_error", 0.001, "log"), ("accuracy", 0.001, "linear")],
)  # fmt: skip
def test_losses_that_fall_far_have_a_logarithmic_axis(metric, last, scale):
    log = [{"epoch": 1, metric: 1.0}, {"epoch": 2, metric: last}]
    (axes,) = training_curves({"AE": log}).axes
    assert axes.get_yscale() == scale


def test_training_curves_by_epoch_and_without_validation():
    fig = training_curves({"AE": [{"epoch": 1, "mse": 0.1}, {"epoch": 2, "mse": 0.05}]})
    assert fig.axes[0].get_xlabel() == "epoch"
    assert legend(fig) == ["AE"]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({}, "no metric"),
        ({"a": [{"step": 1}]}, "no metric"),
        ({"a": [{"loss": 1.0}]}, "no 'epoch'"),
    ],
)
def test_training_curves_refuse(history, message):
    with pytest.raises(InputError, match=message):
        training_curves(history)
