"""What the documentation says is so: commands, options, links, figures."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from documented import PLACEHOLDERS, ROOT, Command, commands, pages, program, read

from ntkscale.experiments import EXPERIMENTS
from ntkscale.faces import analyze, train
from ntkscale.faces.command_line import parse

LARGEST_FIGURE = 120_000
FOREIGN = {"--nproc-per-node"}
"""Options of torchrun, whose commands are ours."""

TINY = {
    "circle": "--width 64 --angles 16 --points 32 --window 1 20 --steps 100",
    "images": "--data mine.npz --width 8 --steps 10 --probe 8 --spectrum 40 "
    "--batch-size 20",
    "dmft": "--num-train 3 --dimension 5 --depth 2 --width 16 64 --seed 0 1 --steps 6 "
    "--learning-rate 0.3 --samples 512",
    "kernel-evolution": "--size 96 --test-size 50 --width 12 --epochs 3 --spawn 0 1 1.5 "
    "--linear-epochs 1 --batch-size 16 --probe 10 --regression 20 --seed 0 1 --workers 1 "
    "--learning-rate 0.2 --momentum 0.5",
    "adversarial-kernel": "--preset digits --pairs 3-8 --size 40 --attacked 20 --features 12 "
    "--top 5 --times 10 300 --parts features --seed 0 --workers 1",
    "adversarial-training": "--preset digits --size 120 --test-size 40 --width 10 --epochs 3 "
    "--batch-size 20 --probe 16 --top 3 --train-steps 2 --eval-steps 3 "
    "--linear-epochs 0 --attack none fgsm --seed 0 1 --workers 1",
    "global-convergence": "--dimension 5 30 --size 12 --width 24 --label 0.5 --activation relu "
    "--horizon 40 --check 20 --seed 0 1 --workers 1",
    "local-analysis": "--dimension 4 --teachers 2 --width 12 --lam 0.1 0.05 --steps 60 "
    "--final-steps 20 --rate 0.1 --seed 0 1 --workers 1",
    "coordinate-check": "--width 16 32 64 --depth 2 --seed 0 1 --points 16",
    "scaling-model": "--quick --parts curves --beta 0.5 --gamma 0 0.5 --width 16 32 --horizon 200 "
    "--seed 0 1",
    "compute-optimal": "--beta 0.5 --gamma 0 0.75 --width 16 32 64 128 --seed 0 1 2 --largest 512 "
    "--repeats 4",
}  # fmt: skip
"""Every experiment, as small as it goes."""


def _where(command: Command) -> str:
    return f"{command.page.relative_to(ROOT)}:{command.line}: {command.text}"


PLANTED = """# A page

Run `python train.py circle --preset tabel` or see [here](nowhere.md), `--nonsense 3`.

```
python train.py circle --beta 0.5 \\
    --seed 0 1   # a comment with --no-such-thing
OMP_NUM_THREADS=1 python -m benchmarks.ntk --quick && pip install --upgrade x
```

```python
print("--not-an-option")
```
"""

STARTED = [(one, *started) for one in commands() if (started := program(one.text))]
TRAINED = [(one, "train.py") for one, first, _ in STARTED if first == "train.py"]
OTHERS = [(one, first, rest) for one, first, rest in STARTED if first not in {"train.py", "make"}]


@cache
def options(name: str) -> frozenset[str]:
    """Options of an experiment, of ``analyze.py``, or of a script by its path."""
    if name not in EXPERIMENTS and name != "analyze.py":
        assert (ROOT / name).is_file(), f"{name} is not there"
        source = (ROOT / name).read_text()
        fields = re.findall(r"^    (\w+): ", source, re.MULTILINE)  # of a dataclass of options
        named = re.findall(r'"(--[a-z][a-z0-9-]*)"', source)
        return frozenset([*named, *("--" + field.replace("_", "-") for field in fields)])
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit):
        analyze.main(["--help"]) if name == "analyze.py" else train.main([name, "--help"])
    return frozenset(re.findall(r"--[a-z][a-z0-9-]*", said.getvalue()))


@cache
def known_options() -> frozenset[str]:
    """Options of anything that has some."""
    folders = ("benchmarks", "tests", "ntkscale/faces")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    # Tests are no programs: they name options that must be refused.
    named = [path for path in files if not path.name.startswith("test_")]
    scripts = [path.relative_to(ROOT).as_posix() for path in named]
    return frozenset(FOREIGN).union(*map(options, [*EXPERIMENTS, "analyze.py", *scripts]))


def test_what_is_read_off_a_page(tmp_path: Path) -> None:
    """Mistakes that are planted are seen: a preset, an option, a link."""
    (tmp_path / "page.md").write_text(PLANTED)
    page = read(tmp_path / "page.md")
    assert [(one.line, one.words[1:]) for one in page.commands()] == [
        (3, ["train.py", "circle", "--preset", "tabel"]),
        (6, ["train.py", "circle", "--beta", "0.5", "--seed", "0", "1"]),
        (8, ["-m", "benchmarks.ntk", "--quick"]),
    ]
    unknown = [one for one in page.options() if one[1] not in known_options() | {"--upgrade"}]
    assert unknown == [(3, "--nonsense")]
    assert page.links() == [(False, 3, "nowhere.md")]
    assert page.anchors() == {"a-page"} and len(page.examples()) == 1
    assert not _takes("circle", ["--preset", "tabel"])
    assert _takes("circle", ["--preset", "table"])


@pytest.mark.parametrize("command", [one for one, _ in TRAINED], ids=_where)
def test_a_documented_training_has_valid_settings(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its words become settings, presets written out, in the ranges that the experiment checks."""
    monkeypatch.chdir(tmp_path)
    for words in command.each():
        started = program(" ".join(words))
        assert started is not None
        arguments = started[1]
        assert arguments[0] in EXPERIMENTS, f"{_where(command)}: {arguments[0]} is no experiment"
        if {"--launcher", "--export"} & set(arguments):  # of a sweep: checked, written, not run
            if "--export" not in arguments:
                arguments += ["--export", "sweep.yaml"]
            assert train.main(arguments) == 0, f"{_where(command)}: {capsys.readouterr().err}"
            continue
        experiment = EXPERIMENTS[arguments[0]]
        checked: list[object] = []

        def check(settings: object, run=experiment.run, checked: list[object] = checked) -> None:
            checked.append(run.__globals__["expand"](settings))  # what `run` itself begins with

        with monkeypatch.context() as patch:
            patch.setitem(EXPERIMENTS, arguments[0], replace(experiment, run=check))
            try:
                code = train.main(arguments)
            except SystemExit as stop:
                code = stop.code
        assert code == 0, f"{_where(command)}: {capsys.readouterr().err}"
        assert len(checked) == 1


@pytest.mark.parametrize(("command", "first", "rest"), OTHERS, ids=str)
def test_another_documented_command_is_there(command: Command, first: str, rest: list[str]) -> None:
    for words in command.each():
        started = program(" ".join(words))
        assert started is not None
        if first == "analyze.py":
            assert parse(analyze.Options, started[1], program=first, about="").run
            continue
        if first == "pytest":
            paths = [word for word in started[1] if word.startswith("tests")]
            assert all((ROOT / path).exists() for path in paths), _where(command)
            continue
        unknown = {word for word in started[1] if word.startswith("--")} - options(first)
        assert not unknown, f"{_where(command)}: {first} has no {', '.join(unknown)}"


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command, first, rest in STARTED:
        if first == "make":
            asked = {word for word in rest if "=" not in word}
            assert asked <= targets, f"{_where(command)}: the Makefile has {', '.join(targets)}"


def test_every_option_is_known() -> None:
    wrong = [
        f"{page.name}:{line}: {option}"
        for page in pages()
        for line, option in page.options()
        if option not in known_options()
    ]
    assert not wrong, "options that no program has:\n" + "\n".join(wrong)


def _takes(name: str, words: Sequence[str]) -> bool:
    """Whether an experiment takes such options with such values."""
    try:
        parse(
            {name: EXPERIMENTS[name].settings, "other": int}, [name, *words], program="", about=""
        )
    except SystemExit:
        return False
    return True


def test_options_with_values_are_taken() -> None:
    """Those that stand alone, like a preset's name: some experiment takes them as they are."""
    wrong = []
    for page in pages():
        for line, text in page.spans():
            command = Command(page.path, line, text)
            if not text.startswith("--") or len(text.split()) == 1:
                continue
            for words in command.each():
                if words[0] in FOREIGN or set(words) & PLACEHOLDERS.keys():
                    continue
                asked = {word for word in words if word.startswith("--")}
                fitting = [name for name in EXPERIMENTS if asked <= options(name)]
                if fitting and not any(_takes(name, words) for name in fitting):
                    wrong.append(_where(command))
    assert not wrong, "no experiment takes these:\n" + "\n".join(wrong)


def test_every_preset_is_documented() -> None:
    """A preset that no page names is one that nobody finds."""
    text = "\n".join(page.path.read_text() for page in pages())
    for name, experiment in EXPERIMENTS.items():
        field = experiment.settings.__dataclass_fields__.get("preset")
        if field is None:
            continue
        for preset in re.findall(r"'([\w-]+)'", str(field.type)):
            assert re.search(rf"\b{preset}\b", text), f"{name} --preset {preset}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page) -> None:
    for _, line, target in page.links():
        if re.match(r"(https?|mailto):", target):
            continue
        where = f"{page.name}:{line}: {target}"
        path, _, anchor = target.partition("#")
        assert not path.startswith("/"), f"{where} is not relative"
        found = (page.path.parent / path).resolve() if path else page.path
        assert found.exists() and found.is_relative_to(ROOT), f"{where} leads nowhere"
        if anchor:
            assert anchor in read(found).anchors(), f"{where} is no heading there"


def test_figures_are_there_small_and_say_how_they_were_made() -> None:
    shown: set[Path] = set()
    for page in pages():
        text = page.path.read_text()
        for is_picture, line, target in page.links():
            if not is_picture:
                continue
            where, path = f"{page.name}:{line}: {target}", (page.path.parent / target).resolve()
            assert path.is_file(), f"{where} is missing"
            assert path.stat().st_size < LARGEST_FIGURE, f"{where} has {path.stat().st_size} bytes"
            shown.add(path)
            caption = text.partition(f"({target})")[2].lstrip("\n").partition("\n\n")[0]
            assert "python train.py" in caption, f"{where}: its caption names no command"
    unused = set((ROOT / "docs" / "figures").iterdir()) - shown
    assert not unused, f"no page shows {', '.join(path.name for path in unused)}"


def test_every_page_of_docs_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for _, _, target in read(index).links()}
    assert set(index.parent.glob("*.md")) - linked == {index}


def test_tiny_budgets_are_given_for_every_experiment() -> None:
    assert TINY.keys() == EXPERIMENTS.keys()


@pytest.mark.parametrize("name", TINY)
def test_an_experiment_runs_with_a_tiny_budget(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From words to a verdict and its report; images are the documented `mine.npz`."""
    monkeypatch.chdir(tmp_path)
    inputs = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    np.savez("mine.npz", inputs=inputs, targets=np.sin(inputs[:, :1]))
    where = ["--runs", str(tmp_path), "--name", "tiny"]
    where += ["--wandb", "disabled"] if "--wandb" in options(name) else []
    code = train.main([name, *TINY[name].split(), *where])
    assert code == 0, capsys.readouterr().err
    assert (tmp_path / name / "tiny" / "report.html").stat().st_size > 1000
