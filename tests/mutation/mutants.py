"""The mutants of a source file, made by cosmic-ray, and a draw of them with a fixed seed.

Drawn are places first, then one of the mutations that cosmic-ray has for the place: a sum has six
neighbours and a comparison five, which says nothing of how much depends on either.

Left out is what no test should see: annotations, arguments of decorators (`frozen=True`), the
wording of errors, and replacements from another world (`x + y` by `x << y`), which any test kills.
"""

import ast
import random
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ARITHMETIC = ("Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow")
ORDER = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE")
NOT_USED = ("ExceptionReplacer", "VariableReplacer", "VariableInserter")


@dataclass(frozen=True)
class Mutant:
    """One change of one line.

    Attributes:
        file: relative to the tree.
        line, column: where, from 1 and 0.
        operator, occurrence: cosmic-ray's name of the mutation and its number in the file.
        before, after: the line, stripped.
    """

    file: str
    line: int
    column: int
    operator: str
    occurrence: int
    before: str
    after: str

    @property
    def key(self) -> str:
        return f"{self.file}:{self.line}:{self.column}:{self.operator}:{self.occurrence}"

    def source(self, original: str) -> str:
        """The file with the change."""
        mutated = _mutated(original, self.operator, self.occurrence)
        assert mutated is not None
        return mutated


def draw(tree: Path, rooms: dict[str, list[str]], number: int, seed: int) -> list[Mutant]:
    """About `number` mutants, in equal shares of the rooms, mixed.

    Args:
        rooms: the files of each room, relative to the tree.
        seed: of the draw; the same seed and sources give the same mutants.
    """
    shares = [number // len(rooms) + (k < number % len(rooms)) for k in range(len(rooms))]
    drawn = [
        _draw_room(tree, files, share, random.Random(f"{seed} {room}"))
        for (room, files), share in zip(rooms.items(), shares, strict=True)
    ]
    return [mutant for row in zip(*drawn, strict=False) for mutant in row] + [
        mutant for row in drawn for mutant in row[min(map(len, drawn)) :]
    ]


def _draw_room(tree: Path, files: list[str], number: int, chance: random.Random) -> list[Mutant]:
    places = [
        (file, place, options)
        for file in sorted(files)
        for place, options in sorted(_places((tree / file).read_text()).items())
    ]
    chance.shuffle(places)
    found: list[Mutant] = []
    for file, (line, column), options in places:
        source = (tree / file).read_text()
        operator, occurrence = chance.choice(options)
        mutant = _made(file, line, column, operator, occurrence, source)
        if mutant is not None:
            found.append(mutant)
        if len(found) == number:
            break
    return found


def _made(
    file: str, line: int, column: int, operator: str, occurrence: int, source: str
) -> Mutant | None:
    """The mutant; nothing where the change is no Python or no change."""
    mutated = _mutated(source, operator, occurrence)
    if mutated is None:
        return None
    try:
        old, new = ast.parse(source), ast.parse(mutated)
    except SyntaxError:
        return None
    # The marker of keyword arguments, `*`, passes for a product.
    marker = "BinaryOperator" in operator and _operations(old) == _operations(new)
    if marker or ast.dump(old) == ast.dump(new):
        return None
    before, after = (text.splitlines()[line - 1].strip() for text in (source, mutated))
    return Mutant(file, line, column, operator, occurrence, before, after)


def _mutated(source: str, operator: str, occurrence: int) -> str | None:
    from cosmic_ray.mutating import mutate_code  # pyright: ignore[reportMissingImports]

    return mutate_code(source, _operator(operator), occurrence)


def _operator(name: str) -> Any:
    # Not at the top: whoever lacks the package is told so by `run`.
    from cosmic_ray.plugins import get_operator  # pyright: ignore[reportMissingImports]

    return get_operator(name)()


def _operations(tree: ast.AST) -> list[type[ast.operator]]:
    return [type(node.op) for node in ast.walk(tree) if isinstance(node, ast.BinOp)]


@cache
def _operators() -> tuple[str, ...]:
    """cosmic-ray's operators that keep to the world of what they replace."""
    from cosmic_ray.plugins import operator_names  # pyright: ignore[reportMissingImports]

    names = []
    for name in operator_names():
        parts = name.partition("/")[2].split("_")
        if parts[0] == "ReplaceBinaryOperator":
            fits = parts[1] in ARITHMETIC and parts[2] in ARITHMETIC
        elif parts[0] == "ReplaceComparisonOperator":
            fits = all(part in ORDER for part in parts[1:]) or set(parts[1:]) == {"Is", "IsNot"}
        else:
            fits = parts[0] not in NOT_USED
        if fits:
            names.append(name)
    return tuple(sorted(names))


def _places(source: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Operators and occurrences for every place (line, column) of a file."""
    from cosmic_ray.ast import ast_nodes, get_ast  # pyright: ignore[reportMissingImports]

    left_out = _left_out(source)
    nodes = list(ast_nodes(get_ast(source)))
    places: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    for name in _operators():
        operator = _operator(name)
        occurrence = 0
        for node in nodes:
            for start, _ in operator.mutation_positions(node):
                if not any(first <= start < last for first, last in left_out):
                    places[start].append((name, occurrence))
                occurrence += 1
    return places


def _left_out(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Spans of annotations, of arguments of decorators, and of what is raised."""
    nodes: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            nodes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            nodes.append(node.returns)
        elif isinstance(node, ast.Raise):
            nodes.append(node.exc)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call):
                    nodes += [*call.args, *(keyword.value for keyword in call.keywords)]
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in nodes
        if node is not None
    ]
