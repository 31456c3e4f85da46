import math

import pytest

from jaxdefense.errors import InputError, UnknownNameError
from jaxdefense.reporting import accuracies, accuracy_table, comparison, comparison_table
from jaxdefense.reporting.cells import attack_name, radius_name

ACCURACIES = """\
Accuracy in percent by eps (l-inf), for Gaussian sigma, pixels in [0, 1]; n = 100 examples; \
95 % intervals are 10.0 to 70.0 points wide.

| defence   | attack   | knowledge   |    0 |   8/255 |   0.1 |   0.5 |
|:----------|:---------|:------------|-----:|--------:|------:|------:|
| none      | clean    | none        | 99.0 |       - |     - |     - |
| none      | Gaussian | none        |    - |       - |  80.0 |  30.0 |
| none      | FGSM     | white-box   |    - |       - |  10.0 |     - |
| none      | PGD-40   | white-box   |    - |     5.0 |   5.0 |     - |
| AE        | clean    | none        | 96.0 |       - |     - |     - |
| AE        | Gaussian | none        |    - |       - |  80.0 |  30.0 |
| AE        | FGSM     | oblivious   |    - |       - |  50.0 |     - |
| AE        | PGD-40   | oblivious   |    - |    25.0 |  25.0 |     - |
| AE        | FGSM     | white-box   |    - |       - |  10.0 |     - |
| AE        | PGD-40   | white-box   |    - |     5.0 |   5.0 |     - |
"""


def test_accuracy_table_exactly(grid):
    assert accuracy_table(grid) == ACCURACIES


def test_accuracy_table_for_the_console(grid):
    lines = accuracy_table(grid, "simple").splitlines()
    assert lines[2].split() == ["defence", "attack", "knowledge", "0", "8/255", "0.1", "0.5"]
    assert lines[-1].split() == ["AE", "PGD-40", "white-box", "-", "5.0", "5.0", "-"]


def test_one_defence_stands_together_whatever_the_order(grid):
    by_attack = sorted(grid, key=lambda record: record.attack)
    defences = [row[0] for row in accuracies(by_attack).rows]
    assert defences == ["none"] * 4 + ["AE"] * 6


def test_comparison_side_by_side(grid):
    table = comparison(grid, 0.1)
    assert table.header == (
        "defence",
        "clean",
        "Gaussian",
        "FGSM oblivious",
        "FGSM white-box",
        "PGD-40 oblivious",
        "PGD-40 white-box",
    )
    assert table.rows[1] == (
        "AE",
        "96.0 [90.0, 100.0]",
        "80.0 [20.0, 90.0]",
        "50.0 [0.0, 60.0]",
        "10.0 [0.0, 60.0]",
        "25.0 [0.0, 60.0]",
        "5.0 [0.0, 60.0]",
    )
    # without a defence there is one attack, not two
    assert table.rows[0][3] == table.rows[0][4] == "10.0 [0.0, 60.0]"
    assert "eps = 0.1 (l-inf), for Gaussian sigma = 0.1, pixels in [0, 1]" in table.caption
    assert "n = 100 examples" in table.caption
    assert comparison_table(grid, 0.1).startswith(table.caption)


def test_comparison_with_a_radius_per_norm(grid):
    table = comparison(grid, {"linf": 8 / 255, "sigma": 0.5})
    assert "FGSM oblivious" not in table.header
    assert table.rows[1][2] == "30.0 [20.0, 90.0]"
    assert "eps = 8/255 (l-inf), for Gaussian sigma = 0.5" in table.caption


def test_comparison_finds_a_radius_that_went_through_float32(record):
    assert comparison([record(eps=0.10000000149)], 0.1).rows == (("AE", "50.0 [40.0, 60.0]"),)


def test_comparison_at_no_measured_radius(grid):
    with pytest.raises(InputError, match=r"eps = 0.3.*8/255 \(linf\), 0.1 \(linf\), 0.1 \(sigma\)"):
        comparison_table(grid, 0.3)


def test_what_was_not_measured_is_a_dash(record):
    missing = record(value=math.nan, low=math.nan, high=math.nan)
    without = record(low=math.nan, high=math.nan, defence="U-AE")
    assert comparison([missing, without], 0.1).rows == (("AE", "-"), ("U-AE", "50.0"))
    assert "no intervals" in accuracies([missing]).caption


def test_models_and_seeds_become_columns_where_they_differ(record):
    table = accuracies([record(), record(model="VGG", n=1000), record(seed=3)])
    assert table.header == ("model", "seed", "defence", "attack", "knowledge", "0.1")
    assert table.rows[1][:3] == ("VGG", "0", "AE")
    assert "n = 100 to 1,000 examples" in table.caption


def test_norms_are_told_apart(record):
    records = [record(), record(norm="l2", eps=1.0)]
    assert [row[1] for row in accuracies(records).rows] == ["FGSM l-inf", "FGSM l2"]
    header = comparison(records, {"linf": 0.1, "l2": 1.0}).header
    assert header == ("defence", "FGSM l-inf white-box", "FGSM l2 white-box")


def test_two_records_of_one_cell_are_refused(record):
    for table in (accuracies, lambda records: comparison(records, 0.1)):
        with pytest.raises(InputError, match="same cell"):
            table([record(), record(value=0.55)])


def test_no_records():
    for table in (accuracy_table, lambda records: comparison_table(records, 0.1)):
        with pytest.raises(InputError, match="no records"):
            table([])


def test_unknown_format(grid):
    with pytest.raises(UnknownNameError, match="simple"):
        accuracy_table(grid, "simpel")


def test_a_bar_in_a_name_opens_no_cell(record):
    assert "| A\\|E " in accuracy_table([record(defence="A|E")])


def test_names():
    assert [attack_name(a) for a in ("none", "pgd-40", "gaussian", "apgd-ce")] == [
        "clean",
        "PGD-40",
        "Gaussian",
        "APGD-ce",
    ]
    assert [radius_name(eps) for eps in (0.0, 0.3, 8 / 255, 0.123456)] == [
        "0",
        "0.3",
        "8/255",
        "0.123456",
    ]
