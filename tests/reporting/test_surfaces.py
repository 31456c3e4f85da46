"""Heat maps of losses: one scale a row, axes that say what they are."""

import numpy as np
import pytest

from jaxdefense.errors import InputError
from jaxdefense.reporting import surface_panels

OFFSETS = np.linspace(-0.1, 0.1, 5)
RISING = np.add.outer(np.arange(5.0), np.zeros(5))


def test_the_gradients_direction_lies_across_the_page():
    axes, bar = surface_panels({"C": (OFFSETS, RISING)}).axes
    assert axes.get_title() == "C"
    assert axes.get_xlabel() == "along the gradient's signs"
    assert axes.get_ylabel() == "along random signs"
    drawn = np.asarray(axes.images[0].get_array())
    assert (np.diff(drawn, axis=1) > 0).all()
    assert (np.diff(drawn, axis=0) == 0).all()
    assert bar.get_ylabel() == "Cross-entropy, mean over images"


def test_panels_of_a_row_share_a_scale_and_rows_do_not():
    panels = {str(i): (OFFSETS, i * RISING + i) for i in range(1, 4)}
    shown = [axes.images[0].get_clim() for axes in surface_panels(panels, 2).axes if axes.images]
    assert shown == [(1, 10), (1, 10), (3, 15)]


def test_no_panel_is_an_error():
    with pytest.raises(InputError, match="no loss surface"):
        surface_panels({})
