"""The command line: presets, one-line errors, and a sweep of a user's own model."""

import dataclasses
import re
import subprocess
import sys
import textwrap
import types
import warnings

import pytest

import jaxdefense as jd
from experiments import quickstart
from jaxdefense import cli, defenses, programs
from jaxdefense.cli.subject import resolve
from jaxdefense.errors import InputError
from jaxdefense.reporting import ensure_folder


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    """No test sets up a cache, or leaves a folder on the path or a handler of warnings."""
    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(tmp_path)


@dataclasses.dataclass(frozen=True)
class Config:
    size: int = 1
    output: str = "runs"
    preset: str = "small"


PRESETS = {"small": Config(), "paper": Config(size=100, preset="paper")}


def run(*arguments, main=None):
    seen = []
    cli.launch(main or seen.append, PRESETS, "small", arguments)
    return seen[0] if seen else None


def failing(capsys, call, *words):
    """One line on standard error, exit code 1, no traceback, nothing of a result."""
    with pytest.raises(SystemExit) as end:
        call()
    assert end.value.code == 1
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    return printed.out


# ------------------------------------------------------------------------------------------ launch


def test_presets_and_options():
    assert run() == PRESETS["small"]
    assert run("--preset", "paper") == PRESETS["paper"]
    assert run("--preset=paper") == PRESETS["paper"]
    assert run("--size", "7", "--preset", "paper") == dataclasses.replace(PRESETS["paper"], size=7)
    assert run("--size=7").preset == "small"


def test_an_unknown_preset_names_the_nearest(capsys):
    failing(capsys, lambda: run("--preset", "papr"), "preset 'papr'", "did you mean 'paper'?")
    failing(capsys, lambda: run("--preset"), "unknown preset", "known are paper, small")


def test_errors_are_one_line_and_bugs_keep_their_traceback(capsys):
    def refuse(config):
        raise InputError("this is wrong, because of that: do something else")

    def crash(config):
        raise RuntimeError("a bug")

    failing(capsys, lambda: run(main=refuse), "this is wrong, because of that: do something else")
    with pytest.raises(RuntimeError, match="a bug"):
        run(main=crash)


def test_interrupted_says_how_to_go_on(capsys):
    def interrupt(config):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run(main=interrupt)
    assert end.value.code == 130
    assert "run the same command again" in capsys.readouterr().err


def test_warnings_are_one_line(capsys):
    def warn(config):
        warnings.warn("mind this", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        run(main=warn)
    assert capsys.readouterr().err == "warning: mind this\n"


def test_help_tells_about_presets(capsys):
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert not end.value.code
    assert "--preset {small,paper} (default small)" in capsys.readouterr().out


def test_an_unwritable_output_folder(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    call = lambda: run(
        "--output", str(tmp_path / "file"), main=lambda config: ensure_folder(config.output)
    )
    failing(capsys, call, "cannot write to the output folder", "Name another folder")


# -------------------------------------------------------------------------------------- quickstart


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "digit"], ["data set 'digit'", "did you mean 'digits'"]),
        (["--model", "lenet"], ["model 'lenet'", "did you mean 'lenet5'"]),
        (["--preset", "smok"], ["preset 'smok'", "did you mean 'smoke'"]),
        (["--headline-eps", "0.07"], ["headline_eps is 0.07", "choose one of eps, 0, 0.0"]),
    ],
)
def test_the_quickstart_names_what_it_does_not_know(capsys, arguments, words):
    failing(
        capsys,
        lambda: cli.launch(
            quickstart.main, quickstart.PRESETS, "small", ["--preset", "smoke", *arguments]
        ),
        *words,
    )


# ------------------------------------------------------------------------------------- jaxdefense


def test_list_names_everything(capsys):
    cli.main(["list"])
    printed = capsys.readouterr().out
    for name in (*jd.attacks.REGISTRY, "lenet5", "resnet18", "digits", "mnist", "synthetic_ct"):
        assert name in printed
    for name in defenses.CONTROLS:
        assert f"\n{name} " in printed
    assert "arXiv 1706.06083" in printed


MODEL = textwrap.dedent("""
    import flax.linen as nn, jax, jax.numpy as jnp, jaxdefense
    W = jax.random.normal(jax.random.key(0), (64, 10))
    number = 3

    def classifier(x):
        return x.reshape(len(x), -1) @ W

    def make():
        return classifier

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(10)(x.reshape(len(x), -1))

    def make_module():
        variables = {"params": {"Dense_0": {"kernel": W, "bias": jnp.zeros(10)}}}
        return jaxdefense.Frozen(Net(), variables)

    def defence():
        return jaxdefense.Defence(classifier=classifier, purifier=lambda x: jnp.round(x))

    DEFENCE = defence()

    def make_number():
        return number

    def with_default(checkpoint="runs/mine"):
        return classifier

    def make_wrong():
        return {}["missing"]

    def probabilities(x):
        return jax.nn.softmax(classifier(x))

    def shaken(keys, x):
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
        return classifier(x + 0.1 * noise)

    random = jaxdefense.Randomized(shaken)
""")
SWEEP = ["--data", "digits", "--n", "20", "--radii", "0", "0.1", "--attack", "fgsm"]


@pytest.fixture
def model(tmp_path):
    (tmp_path / "my_model_of_a_test.py").write_text(MODEL)
    yield "my_model_of_a_test"
    sys.modules.pop("my_model_of_a_test", None)


def test_sweep_of_a_model_or_of_what_makes_one(capsys, model):
    printed = []
    for name in ("classifier", "make"):
        cli.main(["sweep", f"{model}:{name}", *SWEEP])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    for part in ("scikit-learn digits", "seed 0", "fgsm, white-box, n = 20", "robust accuracy %"):
        assert part in printed[0]


def test_a_sweep_of_a_random_model_averages_over_draws(capsys, model):
    spent = []
    for draws in (1, 3):
        cli.main(["sweep", f"{model}:random", *SWEEP, "--draws", str(draws)])
        printed = capsys.readouterr()
        assert "single draws" not in printed.out + printed.err
        assert "fgsm, white-box, n = 20" in printed.out
        spent.append(float(re.search(r"([\d.]+) gradients per example", printed.out)[1]))
    assert spent[1] > 2.9 * spent[0] > 0


@pytest.mark.parametrize("alone", [["--share.process", "1"], ["--share.coordinator", "a:1"]])
def test_a_process_that_does_not_say_of_how_many_is_refused(capsys, model, alone, tmp_path):
    given = ["sweep", f"{model}:classifier", *SWEEP, "--resume", str(tmp_path), *alone]
    failing(capsys, lambda: cli.main(given), "--share.processes")


def test_audit_of_a_defence_or_of_what_makes_one(capsys, model, tmp_path, monkeypatch):
    """What comes before any attack; the attacks are tested with `jaxdefense.audit` itself."""
    given, commands = [], []

    def told(defence, x, y, *rest, **options):
        given.append((defence, len(x), options["claims"], options["only"]))
        commands.append(options["command"])
        raise InputError("seen")

    monkeypatch.setattr("jaxdefense.auditing.audit", told)
    command = ["--data", "digits", "--n", "20", "--no-train", "--claim", "0.5@linf:0.1"]
    for name in ("defence", "DEFENCE", "classifier"):
        with pytest.raises(SystemExit) as ended:
            cli.main(["audit", f"{model}:{name}", *command, "--only", "white-box"])
        assert ended.value.code == 3  # not that of a claim that was refuted
        assert "seen" in capsys.readouterr().err
    assert [d.purifier is None for d, *_ in given] == [False, False, True]
    commands.clear()
    assert {row[1:] for row in given} == {(20, ("0.5@linf:0.1",), "white-box")}
    monkeypatch.setenv("JAXDEFENSE_PRESET", "smoke")
    with pytest.raises(SystemExit):
        cli.main(["audit", f"{model}:defence", *command, "0.4@linf:0.2", "--claim", "0.3@linf:0.3"])
    assert commands.pop().startswith("env JAXDEFENSE_PRESET=smoke jaxdefense")
    assert given.pop()[2] == ("0.5@linf:0.1", "0.4@linf:0.2", "0.3@linf:0.3"), "none is dropped"
    with pytest.raises(SystemExit):
        cli.main(["audit", f"{model}:number", *command])
    assert "a callable x -> logits, a Defence, or a function" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["sweep", f"{model}:defence", *SWEEP])
    assert "is a Defence, but must be" in capsys.readouterr().err


def test_a_module_that_ends_the_program_gives_no_verdict(tmp_path, monkeypatch):
    (tmp_path / "a_module_that_exits.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", "a_module_that_exits:net", "--data", "digits", "--n", "5"])
    assert ended.value.code == 3


def test_one_attacker_repeated_leaves_the_report_of_the_whole_alone(model, tmp_path, monkeypatch):
    seen = []
    found = types.SimpleNamespace(exit_status=2)
    monkeypatch.setattr("jaxdefense.auditing.audit", lambda *a, **k: seen.append(k) or found)
    monkeypatch.setattr(
        "jaxdefense.reporting.audits.write_audit", lambda folder, *_: seen.append(folder) or []
    )
    command = ["audit", f"{model}:defence", "--data", "digits", "--n", "5", "--no-train"]
    for only in ([], ["--only", "BPDA, identity"]):
        with pytest.raises(SystemExit):
            cli.main([*command, *only])
    whole, here, again, there = seen
    assert whole["folder"] == again["folder"] == here / "attackers"
    assert there == here / "only-bpda-identity"


def test_a_sweep_from_its_blocks(capsys, model, tmp_path):
    command = ["sweep", f"{model}:make_module", *SWEEP, "--resume", str(tmp_path / "blocks")]
    printed = []
    for _ in range(2):
        cli.main(command)
        told = capsys.readouterr()
        printed.append(told.out)
        assert re.search(r"[\d.]+ s, [\d.]+ s of compiling\n", told.err)
    assert printed[0] == printed[1]
    (block,) = (tmp_path / "blocks").rglob("*.npz")
    block.write_bytes(b"damaged")
    cli.main(command)
    assert capsys.readouterr().out == printed[0]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("no_such_module:net", [], ["'no_such_module:net' cannot be imported", "No module named"]),
        ("{model}:net", [], ["cannot be imported", "no attribute 'net'"]),
        ("{model}", [], ["must be written module:name", "my_model:net"]),
        (":net", [], ["must be written module:name"]),
        (".relative:net", [], ["must be written module:name"]),
        ("{model}:number", [], ["is a int", "callable x -> logits"]),
        ("{model}:make_number", [], ["is a int", "callable x -> logits"]),
        ("{model}:probabilities", [], ["probabilities, but logits are expected"]),
        ("{model}:classifier", ["--attack", "pdg"], ["attack 'pdg'", "did you mean 'pgd'"]),
        ("{model}:classifier", ["--norm", "linff"], ["norm for fgsm 'linff'", "'linf'"]),
        ("{model}:classifier", ["--data", "digts"], ["data set 'digts'", "did you mean 'digits'"]),
        ("{model}:classifier", ["--radii", "8"], ["0-255 units", "divide by 255"]),
    ],
)
def test_what_cannot_be_swept_is_one_line(capsys, model, name, options, words):
    arguments = ["sweep", name.format(model=model), *SWEEP, *options]
    assert failing(capsys, lambda: cli.main(arguments), *words) == ""


def test_a_factory_may_have_defaults(model):
    """A checkpoint's path, say."""
    assert resolve(f"{model}:with_default").__name__ == "classifier"


def test_errors_inside_the_users_own_code_are_not_hidden(model):
    with pytest.raises(KeyError, match="missing"):
        cli.main(["sweep", f"{model}:make_wrong", *SWEEP])


def test_prepare_needs_the_original_files(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("JAXDEFENSE_DATA", raising=False)
    arguments = ["prepare", "tmnist", "--tfds-dir", str(tmp_path)]
    failing(capsys, lambda: cli.main(arguments), "--data-dir")
    cli.main(["prepare", "digits"])
    assert "digits" in capsys.readouterr().out


def test_the_console_script_of_a_fresh_process(tmp_path):
    script = "import sys; from jaxdefense.cli import main; main(sys.argv[1:])"
    ended = subprocess.run(
        [sys.executable, "-c", script, "sweep", "no_such_module:net"],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
        env={**__import__("os").environ, "JAXDEFENSE_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: model 'no_such_module:net' cannot be imported")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_the_compilation_cache_lies_where_it_is_told(monkeypatch, tmp_path, given):
    monkeypatch.undo()
    settings = {}
    config = types.SimpleNamespace(
        jax_compilation_cache_dir=given, update=settings.__setitem__
    )  # fmt: skip
    monkeypatch.setattr(programs, "jax", types.SimpleNamespace(config=config))
    monkeypatch.setattr(warnings, "filterwarnings", lambda *_: None)
    monkeypatch.setenv("JAXDEFENSE_CACHE", str(tmp_path))
    cli.use_compilation_cache()
    folder = settings.get("jax_compilation_cache_dir")
    assert folder == (None if given else str(tmp_path / "xla"))
    assert settings["jax_persistent_cache_min_compile_time_secs"] == 0.0
    assert not (tmp_path / "xla").exists()
