"""One table over all papers, written into `experiments/README.md` from the committed results.

python -m experiments.summary
"""

import json
from pathlib import Path
from typing import Any

from experiments.answers import without
from experiments.coverage import RESULTS
from experiments.paper_numbers import Number
from experiments.publish import ANSWERS
from jaxdefense.reporting import Table, write_atomically

PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- papers: made by experiments.summary -->", "<!-- end of papers -->"


def main() -> None:
    """Rewrites the table."""
    write_atomically(PAGE, inserted(PAGE.read_text(), table(RESULTS)))
    print(f"table   {PAGE}")


def inserted(page: str, text: str) -> str:
    """The page with the text between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{rest.partition(END)[2]}"


def table(results: Path) -> str:
    """What each paper rests on: printed, as attacked, adaptive, verdict, what decides it."""
    rows = []
    for path in sorted(results.glob(f"*/{ANSWERS}")):
        told = json.loads(path.read_text())
        paper = f"[{told['title']}](results/{path.parent.name}/README.md)"
        minutes = f"{told['meta']['wall_seconds'] / 60:.0f} min, {told['meta']['device']}"
        cells = {Number(**a["number"]): a["cells"] for a in told["answers"]}
        for answer in (a for a in told["answers"] if a["headline"] and a["cells"]):
            bare = without(Number(**answer["number"]), cells)
            rows.append(
                (
                    paper,
                    *_claim(answer, cells[bare] if bare else {}),
                    f"`{told['meta']['command']}`",
                    minutes,
                )
            )
            paper = ""  # once is enough
    header = (
        "paper", "claim", "printed", "as the paper attacked", "control", "adaptive", "without it",
        "verdict",
        "what decides it", "command", "wall time",
    )  # fmt: skip
    caption = (
        "Accuracy in percent. *As the paper attacked*: the paper's own attacker; *control*: what "
        "has no autoencoder trained to restore images, under the same attack or on the same "
        "transferred examples (without the faults of public code; where it is named the best of "
        "several that all seeds have); *adaptive*: "
        "of all attackers that the paper's script measured (of claims about black boxes: of those) "
        "the one that leaves least (the audits below try others, and may find more); *without it*: "
        "the same of what the paper compares it with; networks by the papers' names, most of ours "
        "are smaller; "
        "95 % intervals over the images of all seeds. Verdicts as in each paper's page."
    )
    return Table(caption, header, tuple(rows), left=len(header)).text("pipe")


def _claim(answer: dict[str, Any], bare: dict[str, Any]) -> tuple[str, ...]:
    number, cells = answer["number"], answer["cells"]
    eps = f" {number['eps']}{number['eps_unit']}" if number["eps"] else ""
    attack = f"{number['attack']}{eps}".split(" [")[0]
    if number["metric"] != "accuracy":
        attack = number["metric"]
    about = (number[name] for name in ("model", "defence", "phase", "dataset"))
    claim = ", ".join(part for part in (*about, attack.replace("pixel", "").strip()) if part)
    last = cells.get("strongest", cells["as attacked"])
    data = " (stand-in data)" if last["synthetic"] else ""
    if last["data"] not in ("", number["dataset"]):
        data = f" (here {last['data']})" + data
    return (
        claim + data, Number(**number).printed, _percent(cells["as attacked"]),
        _control(cells.get("control")), _percent(last),
        _percent(bare.get("strongest", bare["as attacked"])) if bare else "-",
        f"**{answer['verdict']}**", last["what"],
    )  # fmt: skip


def _control(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "-"
    name, colon, _ = cell["what"].partition(":")
    return _percent(cell) + f", {name}" * bool(colon)


def _percent(cell: dict[str, Any]) -> str:
    return f"{100 * cell['value']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


if __name__ == "__main__":
    main()
