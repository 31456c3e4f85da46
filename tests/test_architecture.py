"""The laws of the layout: who may import whom, where third parties live, how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxdefense"
FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])

# Module -> where it may be imported.
ROOMS = {
    "tensorflow_datasets": ("jaxdefense/data/",),
    "matplotlib": ("jaxdefense/reporting/", "jaxdefense/data/assets/"),
    "orbax": ("jaxdefense/checkpoints.py",),
    "tyro": ("jaxdefense/cli/",),
    "jinja2": ("jaxdefense/reporting/",),
    "torch": ("experiments/benchmarks/",),
    "foolbox": ("experiments/benchmarks/",),
    "torchattacks": ("experiments/benchmarks/",),
    "art": ("experiments/benchmarks/",),
    "tensorflow": (),
}


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("module", ROOMS)
def test_third_parties_stay_in_their_room(module):
    guests = [
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if any(name == module or name.startswith(module + ".") for name in imports(path))
    ]
    assert all(guest.startswith(ROOMS[module]) for guest in guests), guests


def test_training_receives_attacks_as_arguments():
    for path in (PACKAGE / "training").rglob("*.py"):
        assert not any(name.startswith("jaxdefense.attacks") for name in imports(path)), path


def test_importing_the_package_is_light():
    code = "import jaxdefense, sys; print([m for m in ('tensorflow_datasets', 'matplotlib', "
    code += "'tensorflow', 'torch', 'orbax.checkpoint', 'sklearn') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_files_stay_readable():
    long = {path.name: len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in long.items() if count > 320} == {}


def test_public_names_have_docstrings():
    """Every public function and class at module level says what it does."""
    silent = []
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if named and not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert silent == []


def test_nothing_names_a_machine():
    for path in [*FILES, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]:
        text = path.read_text()
        for folder in {Path.home(), ROOT.parent}:
            assert f"{folder}/" not in text or len(folder.parts) < 2, path
    assert "://" not in (ROOT / "requirements.lock").read_text()
