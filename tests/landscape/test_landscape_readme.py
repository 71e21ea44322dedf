"""The example of the README runs."""

import re
from pathlib import Path

from ntkscale import landscape


def test_the_example_runs(capsys):
    text = (Path(landscape.__path__[0]) / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, {})
    barrier, *_ = capsys.readouterr().out.split()
    assert -1 < float(barrier) < 1
