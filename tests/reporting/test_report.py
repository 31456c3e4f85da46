import base64
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from jaxdefense.errors import DataError, InputError
from jaxdefense.reporting import accuracy_table, comparison, save, write_report

VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order; collects text, tags and what is loaded or linked."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


@pytest.fixture
def page(tmp_path, grid):
    figures = save(Figure(figsize=(3, 2)), tmp_path / "figure")
    meta = {
        "command": "make quickstart",
        "device": "cpu, 2 cores",
        "versions": {"python": "3.12", "jax": "0.10"},
        "wall_seconds": 192.3,
        "config": {"preset": "small", "radii": [0.1, 0.2]},
    }

    def build(**changes):
        given = {
            "title": "A title",
            "summary": "Asked. Answered.",
            "records": grid,
            "meta": meta,
            "figures": [("Curves", figures[0]), ("Vector", figures[1])],
            "tables": [comparison(grid, 0.1), accuracy_table(grid, "simple")],
        }
        path = write_report(tmp_path / "report.html", **(given | changes))
        html = path.read_text(encoding="utf-8")
        return Page(html), html

    return build


def test_says_what_and_how(page):
    text = " ".join(page()[0].text.split())
    assert text.index("Asked. Answered.") < text.index("PGD-40 oblivious") < text.index("Curves")
    for said in (
        "80.0 [20.0, 90.0]",
        "100 per cell; intervals are 95 %",
        "gradients of the classifier alone",
        "digits: made up",
        "make quickstart",
        "cpu, 2 cores",
        "python 3.12, jax 0.10",
        "3 min 12 s",
        "radii: [0.1, 0.2]",
        "eps (l-inf, pixels in [0, 1])",
        "2 from 8/255 to 0.1",
    ):
        assert said in text, said


def test_is_one_file_that_loads_nothing(page):
    parsed, html = page()
    assert parsed.links
    assert all(link.startswith("data:") for link in parsed.links)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "script" not in parsed.tags
    assert "link" not in parsed.tags


def test_figures_are_inside_at_their_own_size(page, tmp_path):
    parsed, html = page()
    png, svg = (tmp_path / f"figure{suffix}" for suffix in (".png", ".svg"))
    inside = [base64.b64decode(link.split(",")[1]) for link in parsed.links]
    assert png.read_bytes() in inside
    assert svg.read_bytes() in inside
    # 3 inches are 288 CSS pixels, in both formats
    assert html.count(f"clamp({round(0.85 * 288)}px, 100%, {round(1.2 * 288)}px)") == 2


def test_records_are_inside_as_csv(page, grid):
    (link,) = (link for link in page()[0].links if link.startswith("data:text/csv"))
    rows = base64.b64decode(link.split(",")[1]).decode().splitlines()
    assert len(rows) == len(grid) + 1


def test_stand_ins_are_announced_and_real_data_are_not(page, record):
    assert "Not real data" not in page()[0].text
    text = page(records=[record(synthetic=True)], tables=[])[0].text
    assert "Not real data" in text
    assert "digits" in text


def test_notes_name_their_cells(page, record):
    text = page(records=[record(note="rises: weak attack"), record(eps=0.2)], tables=[])[0].text
    assert "rises: weak attack (AE, FGSM white-box)" in text


def test_everything_is_escaped(page, record):
    bad = '<script>alert("x")</script>&amp;'
    records = [record(note=bad, dataset=bad, provenance=bad, defence=bad, synthetic=True)]
    parsed, html = page(
        title=bad,
        summary=bad,
        records=records,
        meta={bad: bad, "config": {bad: bad}},
        tables=[comparison(records, 0.1), bad],
    )
    assert "script" not in parsed.tags
    assert "<script" not in html
    assert parsed.text.count(bad) >= 9


def test_without_records_tables_and_figures(page):
    parsed, _ = page(records=[], meta={}, figures=[], tables=[])
    assert "table" not in parsed.tags
    assert "img" not in parsed.tags


def test_figures_that_cannot_be_shown(page, tmp_path):
    (tmp_path / "false.png").write_bytes(b"GIF89a")
    for name, message in (
        ("a.pdf", "neither"),
        ("none.png", "cannot read"),
        ("false.png", "no PNG"),
    ):
        with pytest.raises(DataError, match=message):
            page(figures=[("caption", tmp_path / name)])


def test_a_failing_report_leaves_the_old_one(page, tmp_path):
    page()
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(InputError, match="object"):
        page(meta={"config": object()})
    assert (tmp_path / "report.html").read_bytes() == before
