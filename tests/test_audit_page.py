"""The page on auditing a defence: its snippets as they stand, in turn."""

import dataclasses
import re
from pathlib import Path

import pytest

from jaxdefense import cli
from jaxdefense.auditing import BUDGETS
from jaxdefense.auditing.claims import BROKEN, EXIT_STATUS

PAGE = (Path(__file__).parent.parent / "docs" / "audit.md").read_text()


def test_snippets(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDEFENSE_CACHE", str(tmp_path))
    small = dataclasses.replace(
        BUDGETS["quick"], steps=5, longer=5, minimum_steps=3, queries=5, few=8, epochs=1, n_train=64
    )
    monkeypatch.setitem(BUDGETS, "quick", small)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    scope = {}
    exec(compile(code, "docs/audit.md", "exec"), scope)
    assert scope["found"].verdicts[0].outcome == BROKEN
    assert "rounding" in capsys.readouterr().out

    # And its command, beside its module.
    (tmp_path / "my_defence.py").write_text(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0])
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"^jaxdefense (audit .* --claim \S+)$", PAGE, re.MULTILINE)
    with pytest.raises(SystemExit) as ended:
        cli.main([*line.split(), "--n", "40"])
    assert ended.value.code == EXIT_STATUS[BROKEN]
    assert (tmp_path / "runs" / "audit-my_defence-build-digits-linf" / "audit.html").exists()
