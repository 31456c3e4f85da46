"""The papers' harness: printed numbers, pooled answers, coverage, one script to its end."""

import dataclasses
import json
import math
import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import (
    coverage,
    harness,
    jung2022_u_autoencoder,
    measuring,
    paper_numbers,
    publish,
    studies,
    summary,
)
from experiments.answers import CLEAN, LOST, answers
from experiments.legend import LEGEND, attacks_named
from experiments.measuring import WARNING
from experiments.paper_numbers import Number
from experiments.pooling import Query, find, over_seeds, pool
from experiments.publish import ANSWERS, _cell, _meta, _warnings
from experiments.side_by_side import side_by_side, undefended
from experiments.verdicts import MATCHED, OUT_OF_REACH, QUOTED, judge
from jaxdefense import Frozen, attacks, linf
from jaxdefense.errors import DataError, InputError
from jaxdefense.evaluation import interval, store
from jaxdefense.reporting import Record, read_json, write_json

NUMBER = Number(
    "0", "1", "Fingers", "ResNet-18", "U-AE", "", "pgd", "0.1", "", "accuracy", "90", "%", "paper",
    "",
)  # fmt: skip


def record(**fields):
    about = {
        "experiment": "test", "dataset": "fingers", "model": "net", "defence": "U-AE",
        "attack": "pgd-40", "knowledge": "white-box", "norm": "linf", "eps": 0.1, "n": 50,
        "seed": 0, "gradients": 0, "forwards": 0, "provenance": "drawn", "synthetic": True,
        "value": 0.5,
    }  # fmt: skip
    about |= fields
    low, high = interval(round(about["value"] * about["n"]), about["n"])
    return Record(**{"low": low, "high": high, **about})


# ---------------------------------------------------------------------------------------- numbers


def test_the_projects_own_numbers_are_all_there():
    numbers = paper_numbers.read()
    assert len(numbers) == len({n.identity for n in numbers}) == 318
    assert {n.paper for n in numbers} == set(paper_numbers.PAPERS)
    fgsm = next(n for n in numbers if n.paper == "4" and n.attack == "fgsm" and n.eps == "20")
    assert (fgsm.radius, fgsm.fraction) == (pytest.approx(20 / 255), 0.6994)


def test_a_file_without_a_column_is_refused(tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("paper,table\n0,1\n")
    with pytest.raises(DataError, match="lacks the columns dataset"):
        paper_numbers.read(path)


# ---------------------------------------------------------------------------------------- answers


def test_seeds_are_pooled_into_one_cell():
    cell = pool([record(value=0.5, seed=0), record(value=0.7, seed=1)])
    assert (cell.value, cell.least, cell.most, cell.n, cell.seeds) == (0.6, 0.5, 0.7, 100, 2)
    assert (cell.low, cell.high) == pytest.approx(tuple(interval(60, 100)))
    assert cell.what == "pgd-40, white-box"
    assert cell.synthetic
    assert cell.text().startswith("60.0 [")
    (one,) = over_seeds([record(value=0.5, seed=0), record(value=0.7, seed=1)])
    assert (one.value, one.n, one.note) == (0.6, 100, "2 seeds")


def test_what_is_no_share_of_images_has_no_interval():
    cell = pool([record(metric="gradient", value=0.004), record(metric="gradient", value=0.006)])
    assert cell.value == pytest.approx(0.005)
    assert math.isnan(cell.low)
    assert cell.text("gradient") == "0.005 (0.004 to 0.006)"


def test_the_weakest_of_several_attacks_answers():
    records = [record(attack=a, value=v) for a, v in (("fgsm", 0.8), ("pgd-40", 0.3))]
    query = Query({"defence": "U-AE", "eps": 0.1}, weakest=True)
    assert find(records, query).what == "pgd-40, white-box"
    with pytest.raises(InputError, match="say which"):
        find(records, dataclasses.replace(query, weakest=False))
    assert find(records, Query({"defence": "AE"})) is None


def test_two_records_of_one_seed_are_refused():
    with pytest.raises(InputError, match="several records of one seed"):
        find([record(), record(value=0.2)], Query({"defence": "U-AE"}))


def test_an_attack_measured_on_fewer_seeds_does_not_answer():
    records = [record(seed=0), record(seed=1), record(attack="fgsm", value=0.1)]
    assert find(records, Query({"defence": "U-AE"}, weakest=True)).seeds == 2


@pytest.mark.parametrize(
    ("value", "bare", "verdict"),
    [
        (0.88, 0.0, "holds"),
        (0.88, 0.86, "no gain"),
        (0.5, 0.0, "weakened"),
        (0.5, 0.5, "no gain"),
        (0.3, 0.6, "no gain"),
        (0.2, 0.5, "broken"),  # six fingers: an answer that is always the same gets as much
        (0.26, 0.0, "broken"),
        (0.04, 0.5, "broken"),
        (0.0, 0.0, "broken"),
    ],
)
def test_the_verdict_is_the_strongest_attackers(value, bare, verdict):
    cells = {"as attacked": pool([record(value=0.9)]), "strongest": pool([record(value=value)])}
    undefended = {"strongest": pool([record(value=bare)])}
    assert judge(NUMBER, cells, undefended) == verdict


def test_a_gain_of_some_seeds_is_none():
    seeds = lambda *values: pool([record(value=v, seed=i, n=1000) for i, v in enumerate(values)])
    cells = {"as attacked": seeds(0.9, 0.9), "strongest": seeds(0.9, 0.3)}
    assert judge(NUMBER, cells, {"strongest": seeds(0.4, 0.35)}) == "no gain"
    assert judge(NUMBER, cells, {"strongest": seeds(0.2, 0.15)}) == "weakened"


def test_the_best_control_of_all_seeds_answers_by_its_name():
    records = [record(defence="second seed", value=0.3, seed=seed) for seed in (0, 1)]
    records += [record(defence="PCA", value=0.8), record(defence="U-AE", value=0.9)]
    query = Query({"defence": ("second seed", "PCA"), "eps": 0.1}, best=True)
    assert find(records, query).what == "second seed: pgd-40, white-box"
    assert find(records[2:], query).what == "PCA (1 seed): pgd-40, white-box"
    assert find([*records, record(defence="PCA", value=0.1, seed=1)], query).value == 0.45
    assert find(records[:2], query).what == "second seed: pgd-40, white-box"
    assert find(records[3:], query) is None


@pytest.mark.parametrize(
    ("bare", "printed", "verdict"),
    [
        (0.72, "80", "weakened"),
        (0.4, "80", "undefended already -40 points"),
        (0.79, "80", "no gain"),
        (0.79, "90", "undefended already -11 points; no gain"),
    ],
)
def test_noise_that_is_worse_to_our_bare_network_breaks_nothing(bare, printed, verdict):
    noisy = dataclasses.replace(NUMBER, attack="gaussian")
    undefended = dataclasses.replace(noisy, defence="none", value=printed)
    defended = {"as attacked": pool([record(value=0.8, n=1000)])}
    without = {"as attacked": pool([record(value=bare, n=1000)])}
    number = dataclasses.replace(noisy, value="90")
    assert judge(number, defended, without, None, undefended) == verdict
    unclear = {"as attacked": pool([record(value=0.85, n=1000)])}
    assert judge(number, defended, without, unclear, undefended) == f"{verdict}; {OUT_OF_REACH}"


def test_what_the_paper_prints_as_a_loss_is_no_claim():
    bare = dataclasses.replace(NUMBER, defence="none", value=str(float(NUMBER.value) + 5))
    cells = {"as attacked": pool([record(value=0.5)]), "strongest": pool([record(value=0.0)])}
    assert judge(NUMBER, cells, cells, undefended=bare) == "-40 points"
    less = dataclasses.replace(bare, value=NUMBER.value)
    assert judge(NUMBER, cells, cells, undefended=less) == "broken"


def test_nothing_left_never_holds():
    """0 of 50 reaches 7 %: too few images to tell from a printed 5 %."""
    few = dataclasses.replace(NUMBER, value="5")
    cells = {"as attacked": pool([record()]), "strongest": pool([record(value=0.0)])}
    assert judge(few, cells, None) == "too few images"
    assert judge(dataclasses.replace(few, value="8"), cells, None) == "broken"


@pytest.mark.parametrize(("control", "more"), [(0.95, f"; {MATCHED}"), (0.8, "")])
def test_a_verdict_says_where_a_control_keeps_as_much(control, more):
    cells = {"as attacked": pool([record(value=0.9)]), "control": pool([record(value=control)])}
    bare = {"strongest": pool([record(value=0.0)])}
    for left, verdict in ((0.88, "holds"), (0.5, "weakened"), (0.0, "broken")):
        told = judge(NUMBER, {**cells, "strongest": pool([record(value=left)])}, bare)
        assert told == verdict + more * (verdict != "broken")
    # With faults in public code, the control has seen the examples without them.
    corrected = {**cells, "corrected": pool([record(value=0.96)]), "strongest": cells["control"]}
    assert judge(dataclasses.replace(NUMBER, value="70"), corrected, bare) == "holds"


def test_a_claim_that_holds_says_where_our_network_was_more_robust_before():
    cells = {"as attacked": pool([record(value=0.9)]), "strongest": pool([record(value=0.88)])}
    undefended = dataclasses.replace(NUMBER, defence="none", value="30")
    for seen, more in ((0.5, "; undefended already +20 points"), (0.38, "")):
        bare = {"as attacked": pool([record(value=seen)]), "strongest": pool([record(value=0.2)])}
        assert judge(NUMBER, cells, bare, None, undefended) == f"holds{more}"
        less = cells | {"strongest": pool([record(value=0.6)])}
        assert judge(NUMBER, less, bare, None, undefended) == f"weakened{more}"


def test_what_a_paper_has_from_others_is_not_judged():
    number = dataclasses.replace(NUMBER, note="literature number, not measured")
    cells = {"as attacked": pool([record()]), "strongest": pool([record(value=0.0)])}
    assert judge(number, cells, None) == "quoted"


def test_from_where_all_images_can_be_the_same_nothing_is_weakened():
    cells = {"as attacked": pool([record()]), "strongest": pool([record(value=0.3)])}
    bare = {"strongest": pool([record(value=0.0)])}
    assert judge(dataclasses.replace(NUMBER, eps="0.4"), cells, bare) == "weakened"
    assert judge(dataclasses.replace(NUMBER, eps="0.5"), cells, bare) == "broken"


def test_the_page_names_the_cells_that_the_sweeps_warn_of():
    rises = [record(note=f"{WARNING}raw accuracy rises", seed=s) for s in (0, 1)]
    title, lines = _warnings([*rises, record(note="static")])
    assert title == "## Warnings"
    assert lines == "- raw accuracy rises: pgd-40 on U-AE (fingers, white-box)"
    assert _warnings([record(note="static")]) == []


@pytest.mark.parametrize(("value", "verdict"), [(0.86, "as printed"), (0.5, "-40 points")])
def test_without_a_defence_it_is_the_gap(value, verdict):
    number = dataclasses.replace(NUMBER, defence="none")
    assert judge(number, {"as attacked": pool([record(value=value)])}, None) == verdict


def test_a_net_trained_without_reconstruction_is_no_defence():
    baseline = dataclasses.replace(NUMBER, defence="joint lambda=0", value="29")
    trained = dataclasses.replace(NUMBER, defence="joint lambda=4", value="90")
    records = [
        record(defence="joint lambda=0", value=0.3),
        record(defence="joint lambda=4", value=0.7),
    ]
    asked = lambda n: {"as attacked": Query({"defence": n.defence})}
    verdicts = [a.verdict for a in answers([baseline, trained], records, asked)]
    assert verdicts == ["as printed", "weakened"]


def test_a_net_tuned_on_attacked_images_is_a_defence():
    bare = dataclasses.replace(NUMBER, defence="none", phase="initial", value="20")
    tuned = dataclasses.replace(NUMBER, defence="none", phase="finetuned", value="60")
    other = dataclasses.replace(bare, model="VGG-16", value="90")
    values = {"VGG-16": 0.9, "initial": 0.2, "finetuned": 0.6}
    records = [record(defence="none", model=model, value=values[model]) for model in values]
    asked = lambda n: {
        "as attacked": Query({"model": "VGG-16" if n.model == "VGG-16" else n.phase})
    }
    # It is compared with the same network before the tuning, whichever is printed first.
    found = answers([other, bare, tuned], records, asked)
    assert [answer.verdict for answer in found] == ["as printed", "as printed", "holds"]


def test_a_verdict_says_where_our_clean_accuracy_is_below_what_is_printed():
    clean = dataclasses.replace(NUMBER, attack="none", eps="", value="95")
    asked = lambda n: {"as attacked": Query({"attack": n.attack})}
    for accuracy, verdict in ((0.5, f"broken; {OUT_OF_REACH}"), (0.94, "broken")):
        records = [record(attack="none", value=accuracy, n=77), record(attack="pgd", value=0.1)]
        assert answers([NUMBER, clean], records, asked)[0].verdict == verdict
        # Where the paper prints none, the script says which.
        both = lambda n: asked(n) | {CLEAN: Query({"attack": "none"})}
        (alone,) = answers([NUMBER], records, both)
        assert alone.verdict == verdict
        assert "77" not in side_by_side([alone]).text("pipe")


@pytest.mark.parametrize(
    ("value", "unit", "shown"), [("0.9209", "frac", "92.09"), ("93.8", "%", "93.8"),
                                 ("0.008", "s", "0.008 s"), ("-", "", "-")],
)  # fmt: skip
def test_printed_shares_are_shown_in_percent(value, unit, shown):
    number = dataclasses.replace(NUMBER, value=value, unit=unit)
    assert side_by_side(answers([number], [], lambda n: "why not")).rows[0][5] == shown


def test_a_row_names_our_data_where_it_is_not_the_papers():
    asked = lambda n: {"as attacked": Query({})}
    for title, shown in (("GTSRB", "Fingers: ours GTSRB"), ("Fingers", "Fingers")):
        (row,) = side_by_side(answers([NUMBER], [record(dataset=title)], asked)).rows
        assert row[1] == shown


def test_columns_that_no_answer_has_are_left_out():
    both = {"as attacked": Query({}), "corrected": Query({"attack": "pgd-40"})}
    for asked, shown in ((both, True), ({"as attacked": Query({})}, False)):
        table = side_by_side(answers([NUMBER], [record()], lambda n, asked=asked: asked))
        assert ("corrected" in table.header) == shown
        assert "white-box" not in table.header
        assert all(len(row) == len(table.header) for row in table.rows)


def test_undefended_classifiers_are_told_seed_by_seed():
    bare = dataclasses.replace(NUMBER, defence="none", attack="none", eps="")
    records = [
        record(attack="none", defence="none", eps=0.0, seed=s, value=v)
        for s, v in enumerate((0.9895, 0.9908))
    ]
    asked = lambda n: {"as attacked": Query({"defence": "none"})}
    (row,) = undefended(answers([bare], records, asked)).rows
    assert row[3:] == ("98.95, 99.08", "99.02", "100")
    assert undefended(answers([NUMBER], records, asked)) is None


def test_the_legend_names_the_verdicts():
    assert f"*{QUOTED}*" in LEGEND
    assert not set("{}") & set(LEGEND)


def test_names_of_attacks_are_explained_where_they_occur():
    told = attacks_named([record(attack="pgd-40x5"), record(attack="spsa-20x16")])
    assert told == (
        "Names of attacks: *pgd-40x5*: 40 steps, 5 restarts; "
        "*spsa-20x16*: 20 steps, of two queries at 16 samples each."
    )
    assert attacks_named([record(attack="fgsm")]) == ""


def test_an_answer_has_cells_or_a_reason():
    other = dataclasses.replace(NUMBER, eps="0.2")
    third = dataclasses.replace(NUMBER, eps="0.3")
    asked = {NUMBER: {"as attacked": Query({"eps": 0.1})}, other: "not here",
             third: {"as attacked": Query({"eps": 0.3})}}  # fmt: skip
    found = answers(list(asked), [record()], asked.get)
    assert [a.reason for a in found] == ["", "not here", LOST]
    text = side_by_side(found).text("pipe")
    assert "ON STAND-IN DATA" in text
    assert "not here" in text
    assert "50.0 [" in text


# ----------------------------------------------------------------------- one script, to its end

TINY = jung2022_u_autoencoder.PRESETS["smoke"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    jung2022_u_autoencoder.main(dataclasses.replace(TINY, output=str(output)))
    return output / "jung2022_u_autoencoder-smoke"


@pytest.mark.xdist_group("jung2022")
def test_everything_is_left_behind(finished):
    names = {path.name for path in (finished / "results").iterdir()}
    assert {"README.md", "answers.json", "results.json", "figure-1.png"} <= names
    assert {"curves-fingers.png", "images-fingers.png"} <= names
    page = (finished / "results" / "README.md").read_text()
    assert "ON STAND-IN DATA" in page
    assert "synthetic" in page
    assert "## Predictions" in page
    told = json.loads((finished / "results" / ANSWERS).read_text())
    rows = [a for a in told["answers"] if a["number"]["dataset"] == "Fingers"]
    assert len(rows) == 12
    assert all(row["cells"] and not row["reason"] for row in rows)
    attacked = [row for row in rows if row["number"]["attack"] == "pgd"]
    defended = [row for row in attacked if row["number"]["defence"] != "none"]
    assert all(set(r["cells"]) == {"as attacked", "white-box", "strongest", "control"}
               for r in defended)  # fmt: skip
    strongest = [row["cells"]["strongest"] for row in attacked]
    assert all(c["n"] == 2 * TINY.n_eval and c["seeds"] == 2 for c in strongest)
    for row in attacked:  # the strongest of all is not beaten by one of them
        values = [c["value"] for name, c in row["cells"].items() if name != "control"]
        assert row["cells"]["strongest"]["value"] == min(values)


@pytest.mark.xdist_group("jung2022")
def test_a_second_run_only_draws(finished, monkeypatch):
    before, _ = read_json(finished / "results" / "results.json")
    monkeypatch.setattr(store, "sweep", lambda *a, **k: pytest.fail("measured again"))
    monkeypatch.setattr("experiments.measuring.craft", lambda *a, **k: pytest.fail("crafted again"))
    jung2022_u_autoencoder.main(dataclasses.replace(TINY, output=str(finished.parent)))
    assert read_json(finished / "results" / "results.json")[0] == before


def test_a_page_counts_what_was_measured_since_it_was_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "_commit", lambda: "new")
    path = tmp_path / "results.json"
    config = dataclasses.make_dataclass("Config", [("steps", int)])(40)
    before = {"config": {"steps": 40}, "wall_seconds": 5.0, "commit": "old"}
    write_json(path, [record()], before)
    cells = {_cell(record())}
    meta = lambda cells: _meta("script", config, path, 9.0, cells)
    told = lambda cells: tuple(meta(cells)[name] for name in ("wall_seconds", "commit"))
    assert told(cells) == (5.0, "old")
    assert told(cells | {_cell(record(seed=1))}) == (9.0, "old, new")


@pytest.mark.xdist_group("jung2022")
def test_coverage_counts_what_is_answered(finished, capsys):
    assert coverage.main(["--results", str(finished), "--papers", "0"]) == 0
    assert "36 numbers: 12 answered, 24 with a reason why not, 0 open" in capsys.readouterr().out
    assert coverage.main(["--results", str(finished)]) == 1
    assert "318 numbers: 12 answered, 24 with a reason why not, 282 open" in capsys.readouterr().out


@pytest.mark.xdist_group("jung2022")
@pytest.mark.parametrize("fault", ["lost", "no first column"])
def test_coverage_counts_what_was_asked_for_and_not_found_as_open(
    finished, tmp_path, capsys, fault
):
    told = json.loads((finished / "results" / ANSWERS).read_text())
    answer = next(a for a in told["answers"] if a["cells"])
    if fault == "lost":
        answer |= {"cells": {}, "reason": LOST}
    else:
        del answer["cells"]["as attacked"]
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / ANSWERS).write_text(json.dumps(told))
    assert coverage.main(["--results", str(tmp_path), "--papers", "0"]) == 1
    assert "1 open" in capsys.readouterr().out


def test_coverage_says_what_it_cannot_read(tmp_path, capsys):
    assert coverage.main([str(tmp_path / "none.csv")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / ANSWERS).write_text('{"answers": [{"number": {"unknown": 1}}]}')
    assert coverage.main(["--results", str(tmp_path)]) == 1
    assert "run the paper's script again" in capsys.readouterr().err


def test_a_stand_in_takes_the_place_of_data_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("JAXDEFENSE_DATA", raising=False)
    config = dataclasses.replace(TINY, preset="small", data_dir=str(tmp_path))
    study = studies.prepare(config, "gtsrb", "digits", 0, tmp_path, size=8, channels=1)
    assert "digits stands in" in capsys.readouterr().out + capsys.readouterr().err
    assert study.data.image_shape == (8, 8, 1)
    assert len(study.y_val) == TINY.n_train // 10


class Bump(nn.Module):
    """Class 1 where the image's mean is about 0.6, and nowhere else."""

    def __call__(self, x):
        return jnp.stack([jnp.zeros(len(x)), 0.0025 - (x.mean((1, 2, 3)) - 0.6) ** 2], -1)


def test_a_grid_is_what_each_radius_leaves_by_itself(tmp_path):
    """FGSM may overshoot: what papers report is not what is broken up to a radius."""
    study = studies.prepare(TINY, "gtsrb", "digits", 0, tmp_path, size=8, channels=1)
    x, y = np.full((4, 8, 8, 1), 0.5, np.float32), np.zeros(4, np.int32)
    study.__dict__["examples"] = (x, y)
    curves = {
        method: measuring.curve(
            study,
            "net",
            "none",
            attacks.fgsm(linf),
            Frozen(Bump(), {}),
            (0.0, 0.1, 0.3),
            method=method,
        )
        for method in ("grid", "nested")
    }
    assert [r.value for r in curves["nested"]] == [1, 0, 0]
    assert [r.value for r in curves["grid"]] == [1, 0, 1]
    assert (curves["grid"][2].low, curves["grid"][2].high) == pytest.approx(interval(4, 4))


def test_an_attack_that_loses_its_way_is_told_of_where_it_knows_what_it_attacks(tmp_path):
    study = studies.prepare(TINY, "gtsrb", "digits", 0, tmp_path, size=8, channels=1)
    study.__dict__["examples"] = (np.full((4, 8, 8, 1), 0.5, np.float32), np.zeros(4, np.int32))
    net, fgsm = Frozen(Bump(), {}), attacks.last_iterate(attacks.fgsm(linf))
    shown = {"none": net, "other": Frozen(Bump(), {})}
    found = measuring.static(study, "net", fgsm, net, shown, (0.0, 0.1, 0.3), alone=1)
    assert [r.value for r in found] == [1, 0, 1] * 2
    assert {r.defence for r in found if WARNING in r.note} == {"none"}
    assert "rises with eps (at 0.3)" in found[0].note


class Faded(nn.Module):
    """Images times a number."""

    start: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        return self.param("factor", nn.initializers.constant(self.start), (1, 1, 1, 1)) * x


@pytest.mark.parametrize(("start", "said"), [(0.0, True), (1.0, False)])
def test_an_autoencoder_that_restores_nothing_is_told(tmp_path, capsys, start, said):
    study = studies.prepare(TINY, "gtsrb", "digits", 0, tmp_path, size=8, channels=1)
    once = harness.Training(epochs=1, lr=1e-4)
    harness.train_autoencoder(study, "autoencoder", Faded(start), once)
    told = capsys.readouterr()
    assert ("restores images no better than their mean" in told.out + told.err) == said


def test_a_run_knows_what_all_its_starts_took(tmp_path, monkeypatch):
    now = iter((0.0, 60.0, 1000.0, 1030.0))
    clock = types.SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr(studies, "time", clock)
    assert studies.spent(tmp_path) == 0
    for seconds in (60, 90):
        with studies.progress(1, tmp_path) as done:
            done("a part")
        assert studies.spent(tmp_path) == seconds


def test_the_table_over_all_papers_is_that_of_the_results():
    page = summary.PAGE.read_text()
    assert page == summary.inserted(page, summary.table(coverage.RESULTS))
