"""Pages of audits, in a real browser where there is one."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense.auditing import BUDGETS, audit
from jaxdefense.errors import DataError
from jaxdefense.reporting.audits import write_audit
from jaxdefense.reporting.leaderboard import write_leaderboard

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "audit.schema.json").read_text())
TINY = dataclasses.replace(
    BUDGETS["quick"], steps=4, longer=4, minimum_steps=3, queries=4, few=8, draws=2
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="module")
def page(tmp_path_factory, linear):
    x, _ = linear.data(count=10)
    classifier = linear.classifier(linear.weights())
    rounds = jd.defenses.bit_depth(3)
    y = np.asarray(classifier(rounds(jnp.asarray(x))).argmax(-1))
    defence = jd.Defence(classifier=classifier, purifier=rounds, name="<b>rounding</b>")
    found = audit(
        defence, x, y, [0.02, 0.1], jax.random.key(0), budget=TINY, claims=["0.9@linf:0.1"],
        about="random images, seed 0",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("audit")
    return write_audit(folder / "one", found, {"more": "said"})


def test_files_hold_the_same_numbers(page):
    told, text, html = (path.read_text() for path in page)
    told = json.loads(told)
    share = f"{100 * told['worst']['robust_accuracy'][-1]:.1f}"
    assert share in text
    assert share in html
    assert told["meta"]["more"] == "said"
    assert "jax" in told["meta"]["versions"]


def test_the_json_is_what_its_schema_says(page):
    told = json.loads(page[0].read_text())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(told, SCHEMA)
    for field in ("n", "verdicts"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**told, field: "something else"}, SCHEMA)


def test_the_page_is_self_contained_and_escapes_what_it_is_told(page):
    html = page[2].read_text()
    assert "&lt;b&gt;rounding" in html
    assert "<b>rounding" not in html
    assert 'src="http' not in html
    assert "<link" not in html
    assert html.count("data:image/png;base64,") > 10


def test_a_page_over_many_audits_links_to_them(page, tmp_path):
    path = write_leaderboard(page[0].parent.parent / "board.html", [page[0].parent, page[0]])
    html = path.read_text()
    assert html.count('href="one/audit.html"') == 2
    assert "random images" in html
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(DataError, match="schema"):
        write_leaderboard(path, [tmp_path])
    with pytest.raises(DataError, match="is no audit"):
        write_leaderboard(path, [tmp_path / "nothing"])


SCRIPT = """
<script>
const told = {};
const buttons = [...document.querySelectorAll("#TABLE th button")];
const column = buttons.findIndex((b) => b.textContent === "HEADING");
const read = () => [...document.querySelectorAll("#TABLE tbody tr")].filter((r) => !r.hidden)
  .map((r) => r.cells[column].textContent.trim().split(" ")[0]);
buttons[column].click(); told.up = read();
buttons[column].click(); told.down = read();
const dot = document.querySelector("circle.hit");
if (dot) { dot.dispatchEvent(new Event("pointerenter"));
  told.tip = document.getElementById("tip").textContent;
  told.shown = !document.getElementById("tip").hidden;
  dot.dispatchEvent(new Event("pointerleave"));
  told.gone = document.getElementById("tip").hidden; }
told.filters = {};
for (const select of document.querySelectorAll("select[data-filter]")) {
  const choose = (value) => { select.value = value; select.dispatchEvent(new Event("change")); };
  const [all, ...values] = [...select.options].map((option) => option.value);
  told.filters[select.dataset.filter] = values.map((v) => { choose(v); return read().length; });
  select.add(new Option("nothing like it")); choose("nothing like it");
  told.none = (told.none || 0) + read().length;
  choose(all); }
told.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.body.dataset.told = JSON.stringify(told);
</script>
"""


def drive(path, table, heading, width, tmp_path):
    """What a script sees that sorts, points and filters, at a width in pixels."""
    script = SCRIPT.replace("TABLE", table).replace("HEADING", heading)
    driven = tmp_path / f"driven-{width}.html"
    driven.write_text(path.read_text().replace("</body>", f"{script}</body>"))
    shown = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--window-size={width},900", f"--user-data-dir={tmp_path}/profile", driven.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    told = shown.partition('data-told="')[2].partition('"')[0]
    return json.loads(told.replace("&quot;", '"'))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [500, 1200])
def test_an_audit_in_a_browser(page, width, tmp_path):
    told = drive(page[2], "attackers", "seconds", width, tmp_path)
    seconds = [float(text) for text in told["up"]]
    assert seconds == sorted(seconds)
    assert [float(text) for text in told["down"]] == sorted(seconds, reverse=True)
    assert told["tip"].startswith("worst case")
    assert "%" in told["tip"]
    assert told["shown"]
    assert told["gone"]
    assert not told["wide"]  # tables scroll by themselves


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_leaderboard_in_a_browser(page, tmp_path):
    found = json.loads(page[0].read_text())
    other = tmp_path / "other"
    other.mkdir()
    told = {**found, "norm": "l2", "budget": "thorough"}
    told["verdicts"] = [{**verdict, "norm": "l2", "eps": 0.05} for verdict in found["verdicts"]]
    (other / "audit.json").write_text(json.dumps(told))
    path = write_leaderboard(tmp_path / "board.html", [page[0].parent, other])
    told = drive(path, "audits", "eps", 1200, tmp_path)
    assert (told["up"], told["down"]) == (["0.05", "0.1"], ["0.1", "0.05"])
    both, each = [2], [1, 1]
    assert told["filters"]["norm"] == told["filters"]["budget"] == each
    assert told["filters"]["data"] == told["filters"]["outcome"] == both
    assert sum(told["filters"]["knowledge"]) >= 2
    assert told["none"] == 0
    assert not told["wide"]
