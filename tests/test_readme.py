"""The README's snippet as it stands, and on the other kinds of model it promises."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
SNIPPET, MODULE, REVIEW = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:3]

LINEN = """
import flax.linen as nn
class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(x.reshape(len(x), -1))
net = Net()
model = jd.Frozen(net, net.init(jax.random.key(0), x[:1]))
"""

NNX = """
from flax import nnx
class Net(nnx.Module):
    def __init__(self):
        self.dense = nnx.Linear(64, 10, rngs=nnx.Rngs(0))
    def __call__(self, x):
        return self.dense(x.reshape(len(x), -1))
model = Net()
model.eval()
"""

EQUINOX = """
import equinox as eqx
dense = eqx.nn.MLP(64, 10, 16, 1, key=jax.random.key(0))
class Net(eqx.Module):
    dense: eqx.nn.MLP
    def __call__(self, x):
        return jax.vmap(self.dense)(x.reshape(len(x), -1))
model = Net(dense)
"""


def test_a_module_for_the_command_line():
    names = {}
    exec(compile(MODULE, "README", "exec"), names)
    assert names["net"]()(np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 10)


@pytest.mark.parametrize("kind", ["as it stands", "linen", "nnx", "equinox"])
def test_snippet(kind, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDEFENSE_CACHE", str(tmp_path))
    code = SNIPPET
    if kind != "as it stands":
        other = {"linen": LINEN, "nnx": NNX, "equinox": EQUINOX}[kind]
        code = re.sub(r"^model = .*$", lambda _: other, code, flags=re.MULTILINE)
        assert other in code
    names = {}
    exec(compile(code, "README", "exec"), names)
    shown = capsys.readouterr().out
    rows = re.findall(r"^ +([\d.]+) +([\d.]+)  \[", shown, re.MULTILINE)
    assert [float(eps) for eps, _ in rows] == [0, 0.05, 0.1, 0.2, 0.3]
    accuracies = np.array([float(accuracy) for _, accuracy in rows])
    assert (np.diff(accuracies) <= 0).all()
    if kind == "as it stands":
        assert accuracies[0] > 85
        assert accuracies[-1] < 30
        exec(compile(REVIEW, "README", "exec"), names)
        shown = capsys.readouterr().out
        for words in ("robust accuracy % after", "apgd-ce", "square", "zero gradients", "inf"):
            assert words in shown
