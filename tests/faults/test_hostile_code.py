"""Nothing that is read is ever run: no pickle, no eval, no shell, but for what is listed here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "ntkscale").rglob("*.py")), ROOT / "train.py", ROOT / "analyze.py"]

MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "code"),
    *("subprocess", "submitit", "multiprocessing", "ctypes", "runpy", "xmlrpc", "dbm"),
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package", "np.load"),
    *("numpy.load", "np.fromfile", "np.loadtxt", "pl.read_json", "pd.read_pickle", "yaml.load"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "os.system", "os.popen", "os.execv"),
    *("importlib.import_module", "datasets.CIFAR10", "dist.all_gather_object"),
    *("dist.broadcast_object_list", "dist.gather_object", "logging.config", "webbrowser.open"),
}
_LAST = {name.rpartition(".")[2] for name in CALLS}

# What is there all the same, and why no file from elsewhere is run by it.
ALLOWED = {
    "runs/environment.py": {"subprocess": "git, by a list of words, in the package's own folder"},
    "experiments/side_by_side.py": {"multiprocessing": "starts processes of this command"},
    "faces/sweep/local.py": {"multiprocessing": "starts processes of this command"},
    "faces/sweep/point.py": {"multiprocessing": "the type of a pipe to the launcher"},
    "faces/sweep/slurm.py": {
        "submitit": "jobs read the pickle that this very command wrote, in a folder that is new; "
        "what a job leaves is never unpickled (test_exit_codes_are_text)"
    },
    "ntk/tiles/ranks.py": {"dist.all_gather_object": "between processes of one torchrun job"},
    "experiments/train_cells.py": {
        "dist.broadcast_object_list": "between processes of one torchrun job"
    },
    # tasks/sources.py has torchvision read CIFAR's pickles: it compares their MD5 with the one
    # published before it opens any (test_cifar_pickles_are_known_before_they_are_opened).
}


def found(path: Path) -> Iterator[str]:
    """What in a file can run what it reads, however it is imported or called."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in MODULES:
                yield node.module
            yield from (
                f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in CALLS
            )
        elif isinstance(node, ast.Attribute) and node.attr in _LAST and ast.unparse(node) in CALLS:
            yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
                yield node.func.id
            for keyword in node.keywords:
                true = not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                )
                if keyword.arg in ("shell", "allow_pickle") and true:
                    yield f"{keyword.arg}="
                if keyword.arg == "weights_only":
                    yield "weights_only="


def test_no_file_of_the_package_runs_what_it_reads() -> None:
    seen: set[tuple[str, str]] = set()
    for path in FILES:
        name = path.relative_to(ROOT).as_posix().removeprefix("ntkscale/")
        allowed = ALLOWED.get(name, {})
        for what in found(path):
            known = [one for one in allowed if what == one or what.startswith(f"{one}.")]
            assert known, f"{name} has {what}; read data as JSON, safetensors or plain arrays"
            seen.add((name, known[0]))
    listed = {(name, what) for name, reasons in ALLOWED.items() for what in reasons}
    assert seen == listed, f"no longer there: {sorted(listed - seen)}"


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from dill import loads", "np.load(p, allow_pickle=True)", "eval('1')",
     "torch.load(p)", "from torch import load\nfrom subprocess import run", "run('x', shell=True)",
     "yaml.load(s, Loader)", "__import__('os')"],
)  # fmt: skip
def test_it_would_be_noticed(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(text)
    assert list(found(tmp_path / "x.py"))


def test_cifar_pickles_are_known_before_they_are_opened(tmp_path: Path) -> None:
    from ntkscale.tasks import images

    class Owned:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "owned",))  # pyright: ignore[reportReturnType]

    import pickle

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    for name in names:
        (folder / name).write_bytes(pickle.dumps(Owned()))
    with pytest.raises(ValueError, match="is damaged: fetch it again"):
        images("cifar10", data_dir=tmp_path)
    assert not (tmp_path / "owned").exists()


def test_exit_codes_are_text(tmp_path: Path) -> None:
    from ntkscale.faces.sweep.schedule import NO_CODE
    from ntkscale.faces.sweep.slurm import _code, _code_file

    log = tmp_path / "gamma0=1.log"
    assert _code(log) == NO_CODE
    _code_file(log).write_text("2\n")
    assert _code(log) == 2
    _code_file(log).write_bytes(b"\x80\x04K\x02.")
    assert _code(log) == NO_CODE
