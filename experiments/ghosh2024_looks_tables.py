"""Tables of `ghosh2024_ct_denoising` on errors, calibration and features."""

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.cells import WHITE_BOX
from experiments.ghosh2024_looks import FLAT, PLACES, RESTORED
from experiments.ghosh2024_parts import PURIFIERS, Parts
from experiments.measuring import OBLIVIOUS
from experiments.pooling import Cell, Query
from experiments.views import View, in_255
from jaxdefense.reporting import Table

SAYS = "Mean over seeds (range over seeds)."


def tables(view: View, parts: Parts) -> list[Table]:
    """All of them; arguments as in `ghosh2024_tables.tables`."""
    return [_errors(view, parts), _confusion(view, parts), _separable(view), _flat(view)]


def only(view: View) -> str:
    """The paper's name of its one data set."""
    (dataset,) = view.titles
    return dataset


def sightings(view: View) -> Iterator[tuple[str, str, str, float]]:
    """Defence, attack, knowledge and radius of what is looked at closely."""
    team, eps = view.teams[only(view)], view.config.eps
    for defence in ("none", *PURIFIERS):
        yield defence, "none", "none", 0.0
        for name in team.printed:
            yield defence, name, WHITE_BOX if defence == "none" else OBLIVIOUS, eps
        if defence != "none":
            yield defence, "PGD", WHITE_BOX, eps


def looked(view: View, sighting: tuple[str, str, str, float], metric: str, **fields: Any) -> Query:
    """A reading that is no accuracy."""
    defence, attack, knowledge, eps = sighting
    fields = {"metric": metric, "attack": attack, "knowledge": knowledge, "eps": eps, **fields}
    return view.query(only(view), defence, **fields)


def _told(sighting: tuple[str, str, str, float]) -> tuple[str, str, str]:
    defence, attack, knowledge, _ = sighting
    clean = knowledge == "none"
    return defence, "clean" if clean else attack, "-" if clean else knowledge


def reading(cell: Cell | None) -> str:
    """What is no accuracy, in a table."""
    return "-" if cell is None else cell.text("")


def _readings(view: View, caption: str, columns: Sequence[str], metrics: Sequence[str]) -> Table:
    rows = []
    for sighting in sightings(view):
        cells = [view.cell(looked(view, sighting, metric)) for metric in metrics]
        for cell in filter(None, cells[:1]):
            size = (str(cell.seeds), str(cell.n))
            rows.append((*_told(sighting), *size, *map(reading, cells)))
    header = ("defence", "attack", "attacker", "seeds", "images", *columns)
    return Table(f"{caption} {SAYS}", header, tuple(rows), 3)


def _errors(view: View, parts: Parts) -> Table:
    """The metrics that the paper names."""
    named = {
        "precision": "precision", "recall": "recall", "f1": "F1", "top1_error": "top-1 error",
        "ece": "ECE", "entropy": "entropy (nats)", RESTORED: "reconstruction (MSE)",
        "mean grey level": "mean grey", "spread of grey levels": "spread of grey",
    }  # fmt: skip
    caption = (
        f"Metrics at eps {in_255(view.config.eps)}; precision, recall and F1 of class "
        f"{parts.study.data.class_names[1]}; ECE over 15 bins; reconstruction: squared error to "
        "the clean image; grey levels (mean and standard deviation, in [0, 1]) of what the CNN "
        "sees."
    )
    return _readings(view, caption, tuple(named.values()), tuple(named))


def _confusion(view: View, parts: Parts) -> Table:
    names = parts.study.data.class_names
    pairs = [(i, j) for i in range(2) for j in range(2)]
    columns = [f"{names[i]} taken for {names[j]}" for i, j in pairs]
    metrics = [f"class {i} taken for {j}" for i, j in pairs]
    caption = f"Confusion matrices at eps {in_255(view.config.eps)}: images of one seed."
    return _readings(view, caption, columns, metrics)


def _separable(view: View) -> Table:
    """A number on overlap."""
    rows = []
    for sighting in sightings(view):
        cells = [view.cell(looked(view, sighting, "AUC", model=place)) for place in PLACES]
        if any(cells):
            rows.append((*_told(sighting), *map(reading, cells)))
    caption = (
        "Overlap as a number: area under the ROC curve of a linear probe that tells clean from "
        f"attacked features (eps {in_255(view.config.eps)}; 0.5: overlap, 1: apart), "
        "cross-validated with both versions of an image in the same fold. Input: pixels; output: "
        "pixels behind the autoencoder; penultimate: of the CNN, behind it. Where the pairs of "
        f"images ({view.config.n_probed} of each seed at most) are fewer than pixels "
        f"({view.config.size**2}) 0.5 may be the probe's, not the images'. {SAYS}"
    )
    return Table(caption, ("defence", "attack", "attacker", *PLACES), tuple(rows), 3)


def _flat(view: View) -> Table:
    """The same of embeddings."""
    hows = ("PCA", *(f"t-SNE of perplexity {p:g}" for p in view.config.perplexities))
    rows = []
    for sighting in sightings(view):
        for place in PLACES:
            whole, *flat = (
                view.cell(looked(view, sighting, metric, model=place))
                for metric in ("AUC", *(f"AUC {FLAT}, {how}" for how in hows))
            )
            if any(flat):
                rows.append((*_told(sighting), place, *map(reading, (whole, *flat))))
    caption = f"The same probe on embeddings in the plane, and on all features. {SAYS}"
    header = ("defence", "attack", "attacker", "features", "all", *hows)
    return Table(caption, header, tuple(rows), 4)
