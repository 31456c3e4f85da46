"""The page on auditing a defence: its snippets as they stand, in turn."""

import dataclasses
import re
from pathlib import Path

from jaxdefense.auditing import BUDGETS
from jaxdefense.auditing.claims import BROKEN

PAGE = (Path(__file__).parent.parent / "docs" / "audit.md").read_text()


def test_snippets(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDEFENSE_CACHE", str(tmp_path))
    small = dataclasses.replace(
        BUDGETS["quick"], steps=5, longer=5, minimum_steps=3, queries=5, few=8
    )
    monkeypatch.setitem(BUDGETS, "quick", small)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    scope = {}
    exec(compile(code, "docs/audit.md", "exec"), scope)
    assert scope["found"].verdicts[0].outcome == BROKEN
    assert "rounding" in capsys.readouterr().out
