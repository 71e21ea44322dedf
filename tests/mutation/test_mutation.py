"""The driver: which tests judge a mutant, what is drawn, and that every verdict has a reason."""

import sys
import tomllib
from pathlib import Path

import pytest

from tests.mutation import run
from tests.mutation.seen import Seen

HERE = Path(__file__).parent
SOURCE = "CONSTANT = 1\n\n\ndef f(x=0):\n    return x + CONSTANT\n"
SEEN = Seen(
    {"m.py": {5: {"a.py::one", "a.py::two", "b.py::slow"}}},
    {"a.py::one": 1.0, "a.py::two": 2.0, "b.py::slow": 3.0, "b.py::other": 0.5, "c.py::far": 0.1},
)


def test_a_line_is_judged_by_the_tests_that_run_it_quick_files_first() -> None:
    chosen = SEEN.tests_of("m.py", 5, SOURCE, 100.0)
    assert sorted(chosen) == ["a.py::one", "a.py::two", "b.py::slow"]
    # A file's tests stay together, and a limit is shared between the files.
    assert chosen[:2] == ["a.py::one", "a.py::two"]
    assert SEEN.tests_of("m.py", 5, SOURCE, 4.0) == ["a.py::one", "b.py::slow"]


def test_what_runs_at_import_is_judged_by_its_function_or_by_all_that_have_to_do_with_it() -> None:
    assert "b.py::other" not in SEEN.tests_of("m.py", 4, SOURCE, 100.0)
    assert set(SEEN.tests_of("m.py", 1, SOURCE, 100.0)) == set(SEEN.seconds) - {"c.py::far"}
    assert SEEN.tests_of("unseen.py", 1, SOURCE, 100.0) == []


def test_every_verdict_gives_one_reason() -> None:
    root = HERE.parents[1]
    for entry in tomllib.loads((HERE / "verdicts.toml").read_text())["verdict"]:
        assert len({"equivalent", "killed_by"} & entry.keys()) == 1, entry
        assert (root / entry["file"]).exists(), entry
        if test := entry.get("killed_by"):
            path, _, name = test.partition("::")
            assert f"def {name.partition('[')[0]}(" in (root / path).read_text(), test


def test_a_draw_is_of_code_alone_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    pytest.importorskip("cosmic_ray", reason="the extra [mutation] is not installed")
    from tests.mutation.mutants import draw

    (tmp_path / "m.py").write_text(
        "def f(x: int | None, *, y: int = 2) -> int | None:\n"
        "    if x is None:\n"
        "        raise ValueError(f'{1 + y} too many')\n"
        "    return x * y\n"
    )
    drawn = draw(tmp_path, {"room": ["m.py"]}, 50, 0)
    assert drawn == draw(tmp_path, {"room": ["m.py"]}, 50, 0)
    assert {mutant.line for mutant in drawn} == {1, 2, 4}
    for mutant in drawn:
        assert mutant.before != mutant.after and "|" not in mutant.after.replace("int | None", "")


def test_without_its_packages_one_sentence_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in run.PACKAGES:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "argv", ["run", "--work", str(tmp_path / "work")])
    assert run.main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install -e '.[mutation]'" in said, said
    assert not (tmp_path / "work").exists()
