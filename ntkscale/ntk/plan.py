"""What a kernel would take, told before it is computed."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ntkscale.ntk.engine import cut
from ntkscale.ntk.forward import Choice, Forward, Model, as_function
from ntkscale.ntk.grams import GramTerm
from ntkscale.ntk.inputs import Batch, count, prepared, same_form
from ntkscale.ntk.jacobian import Columns
from ntkscale.ntk.kernel import Output, outputs_of
from ntkscale.ntk.memory import default_budget
from ntkscale.ntk.structured import Structured
from ntkscale.ntk.suitability import look, undisturbed
from ntkscale.ntk.terms import SMALL_PRODUCTS, Term, sizes_of
from ntkscale.ntk.uses import leaves_of, probe_batch

GENERIC = 4.0
"""How much dearer a multiply-add is where gradients come sample by sample."""


@dataclass(frozen=True)
class ParameterPlan:
    """How one parameter's kernel would be computed.

    Attributes:
        name: the parameter's; a bias joined to its weight stands beside it.
        entries: numbers in it.
        method: "gram matrices", "gram matrices by position", "gradients", "gradients, pulled back"
            or "jacobian", the generic route.
        multiply_adds: of its products, beside the passes through the model.
    """

    name: str
    entries: int
    method: str
    multiply_adds: float


@dataclass(frozen=True)
class KernelPlan:
    """What `gram` would do.

    Attributes:
        parameters: one row a parameter the outputs depend on.
        shape: of the kernel.
        chunk: samples run through the model at a time.
        passes: multiply-adds of the forward and backward passes.
        memory: bytes held at a time beside the kernel.
        budget: bytes it may be.
        kernel: bytes of the kernel.
        rate: multiply-adds a second of a matrix product here and now; 0 where none was measured.
        seconds: expected time at that rate, good to a factor of two.
    """

    parameters: tuple[ParameterPlan, ...]
    shape: tuple[int, ...]
    chunk: int
    passes: float
    memory: int
    budget: int
    kernel: int
    rate: float
    seconds: float

    @property
    def multiply_adds(self) -> float:
        """Of everything."""
        return self.passes + sum(p.multiply_adds for p in self.parameters)

    def __str__(self) -> str:
        wide = max([len(p.name) for p in self.parameters] + [len("passes through the model")])
        lines = [f"kernel of shape {self.shape}, {_bytes(self.kernel)}"]
        lines.append(f"  {'parameter':{wide}}  {'entries':>11}  {'multiply-adds':>13}  method")
        lines += [
            f"  {p.name:{wide}}  {p.entries:>11,}  {p.multiply_adds:>13.2e}  {p.method}"
            for p in self.parameters
        ]
        lines.append(f"  {'passes through the model':{wide}}  {'':>11}  {self.passes:>13.2e}")
        lines.append(f"  {'total':{wide}}  {'':>11}  {self.multiply_adds:>13.2e}")
        lines.append(
            f"{self.chunk} samples at a time, about {_bytes(self.memory)} beside the kernel "
            f"(budget {_bytes(self.budget)})"
        )
        if self.rate:
            lines.append(
                f"about {self.seconds:.2g} s at {self.rate / 1e9:.0f} thousand million "
                "multiply-adds a second, measured now"
            )
        return "\n".join(lines)


@torch.inference_mode(mode=False)
def plan(
    model: Model,
    x1: Batch,
    x2: Batch | None = None,
    *,
    output: Output = "trace",
    params: Choice | None = None,
    memory: int | None = None,
) -> KernelPlan:
    """What `gram` with the same arguments would do: method per parameter, work, memory, time.

    Runs the model on a few samples. On the meta device no number is needed: neither weights nor
    inputs have to exist. Print the result to read it.

    Counting: passes forward and backward once an output; two Gram matrices cost (n P)^2 / 2 (a +
    C b) for an a x b weight at P positions; gradients cost n C P a b to form and n^2 / 2 C a b to
    multiply (twice that without symmetry). A check on two samples may still send a parameter to
    the generic route.

    Raises:
        ValueError: as `gram`; on the meta device, the model's forward needs numbers.
    """
    select = output if callable(output) else None
    forward = as_function(model, params=params, select=select, attached=False)
    meta = forward.device.type == "meta"
    x1 = prepared(x1, "x1", forward.device, attached=False)
    if x2 is not None:
        x2 = prepared(x2, "x2", forward.device, attached=False)
        same_form(x1, x2)
    n1 = count(x1)
    n2 = n1 if x2 is None else count(x2)
    if memory is None:
        memory = default_budget(torch.device("cpu") if meta else forward.device)
    with undisturbed(forward.device):
        try:
            kind, outputs = outputs_of(output, look(forward, x1))
            structured = Structured.of(forward, x1, max(n1, n2), outputs, kind)
            forward_work = _forward_work(forward, x1)
        except (NotImplementedError, RuntimeError) as error:
            if not meta:
                raise
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"the model cannot run without numbers ({reason}); plan it on a real device."
            ) from error
    c = len(outputs)
    pairs = n1 * n2 / (2 if x2 is None else 1)
    total_n = n1 + (0 if x2 is None else n2)
    rows = _rows(forward, structured, pairs, total_n, c)
    largest = max(n1, n2)
    if structured is None:
        chunk, group, held = largest, c, 0
    else:
        chunk, group = cut(structured, largest, memory)
        held = structured.sample_bytes(group)
    dtype = Columns.of(forward.chosen, apart=False).dtype
    kernel = n1 * n2 * {"trace": 1, "diagonal": c, "full": c * c}[kind] * dtype.itemsize
    # Chunks beyond the first pair are run again for every row of blocks, and forward passes for
    # every group of outputs.
    again = max(1.0, math.ceil(largest / chunk) / 2)
    passes = total_n * (math.ceil(c / group) + c) * forward_work * again
    rate = 0.0 if meta else _rate(forward.device, dtype)
    dear = sum(p.multiply_adds * _DEARER[p.method] for p in rows) + passes
    tail = {"trace": (), "diagonal": (c,), "full": (c, c)}[kind]
    return KernelPlan(
        tuple(rows),
        (n1, n2, *tail),
        chunk,
        passes,
        chunk * held * (1 if chunk == largest and x2 is None else 2),
        memory,
        kernel,
        rate,
        dear / rate if rate else 0.0,
    )


_DEARER = {
    "gram matrices": 1.0,
    "gram matrices by position": 1.1,
    "gradients": SMALL_PRODUCTS,
    "gradients, pulled back": GENERIC,
    "jacobian": GENERIC,
}


def _rows(
    forward: Forward, structured: Structured | None, pairs: float, n: int, outputs: int
) -> list[ParameterPlan]:
    found: dict[str, ParameterPlan] = {}
    for term in structured.terms if structured is not None else ():
        assert structured is not None
        method, work = _work(term, structured, pairs, n, outputs)
        for k, name in enumerate(term.names):
            known = found.get(name)
            more = (work if k == 0 else 0.0) + (0.0 if known is None else known.multiply_adds)
            found[name] = ParameterPlan(name, forward.chosen[name].numel(), method, more)
    rows = []
    for name, p in forward.chosen.items():
        if name in found:
            rows.append(found[name])
        elif structured is None or name in structured.uses.graph.leaves:
            work = p.numel() * outputs * (n + pairs)
            rows.append(ParameterPlan(name, p.numel(), "jacobian", work))
    return rows


def _work(
    term: Term, structured: Structured, pairs: float, n: int, outputs: int
) -> tuple[str, float]:
    if isinstance(term, GramTerm):
        sizes = sizes_of(term.uses, structured.uses)
        work = pairs * sizes.positions**2 * sizes.groups * (sizes.a + outputs * sizes.b)
        return "gram matrices" + (" by position" if sizes.positions > 1 else ""), work
    if term.sliced:
        sizes = sizes_of(term.sources[0].uses, structured.uses)
        entries = sizes.groups * sizes.a * sizes.b * outputs
        return "gradients", entries * (n * sizes.positions + pairs)
    pulled = any(s.pull_back is not None for s in term.sources)
    return "gradients, pulled back" if pulled else "gradients", term.size * outputs * (n + pairs)


def _forward_work(forward: Forward, x: Batch) -> float:
    """Multiply-adds of a forward pass of one sample."""
    sample = probe_batch(x)
    counter = FlopCounterMode(display=False)
    # With a graph, as in earnest: without one, attention is fused and not counted.
    with counter:
        forward(leaves_of(forward.chosen), sample)
    return counter.get_total_flops() / 2 / count(sample)


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a matrix product, best of a few."""
    side = 512
    a = torch.ones(side, side, dtype=dtype, device=device)
    best = math.inf
    for _ in range(4):
        _finish(a)
        started = time.perf_counter()
        torch.mm(a, a)
        _finish(a)
        best = min(best, time.perf_counter() - started)
    return side**3 / best


def _finish(t: Tensor) -> None:
    if t.device.type == "cuda":
        torch.cuda.synchronize(t.device)


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
