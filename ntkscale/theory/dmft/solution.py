"""What every solver of the mean-field equations returns, and how it is kept on disk."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.dmft import files

FORMAT = "ntkscale.dmft.Solution 1"


@dataclass(frozen=True)
class Cost:
    """What a solution took.

    Attributes:
        seconds: of wall-clock time.
        samples: of the Monte-Carlo average; 0 where there is none.
        peak_bytes: of the tensors held at once, counted and not measured.
    """

    seconds: float = 0.0
    samples: int = 0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Fields:
    """Samples of what single neurons of an infinitely wide network see and send back.

    Attributes:
        h: L tensors (T, P, S), preactivations of layers 1 ... L.
        z: L tensors (T, P, S), gradients before the factor phi'; (T, P, C, S) for several outputs,
            P = 1 where there is no sample index.
    """

    h: tuple[Float[Tensor, "T All S"], ...]
    z: tuple[Float[Tensor, "T *All_C S"], ...]


@dataclass(frozen=True)
class Solution:
    """An infinitely wide network through training. Tensors are float64.

    Points are the training points, then the test points (All = P + P_test). Arrays with no
    dependence on an index are expanded along it, at no memory. Targets given as (P,) leave out the
    axes C.

    Attributes:
        times: flow time, sum of learning rates / (1 - momentum); 0 is initialisation.
        loss: what is optimised, on the training points.
        mse: mean |y - f|^2 over training points (no 1/2); with cross-entropy, of logits f against
            the probabilities y, a number for comparisons and not an error.
        test_mse: the same over test points; None without their targets.
        outputs: f, (T, All) or (T, All, C).
        num_train: P.
        phi: Phi^1 ... Phi^L, (T, All, T, All): <phi(h_mu(t)) phi(h_al(s))>.
        g: G^1 ... G^L, (T, All, T, All) or (T, All, C, T, All, C): <g_mu(t) g_al(s)>.
        ntk: tangent kernel of training points at equal times, (T, P, P) or (T, P, P, C, C):
            df_mu/dt = sum_al ntk[t, mu, al] Delta_al / P in flow.
        forward_responses: A^1 ... A^(L-1): gamma0^-1 d<phi(h^l_mu(t))>/d r^l_al(s). One entry is
            the answer to one step's kick, so sums over s need no weights. (T, P, T, P), (T, P, T,
            P, C) for several outputs; linear networks' r has no sample index: (T, P, T[, C]).
            Empty for L = 1 and where they are neglected.
        backward_responses: B^1 ... B^(L-1): gamma0^-1 d<g^l_mu(t)>/d u^l_al(s), (T, P, T, P),
            (T, P, C, T, P); linear networks: (T[, C], T, P).
        gamma0: feature learning.
        fields: samples for densities, or None. For linear networks see `draw`.
        standard_error: of the Monte-Carlo average: "mse" (T,) absolute, "phi" and "g" (L,)
            relative to the norm of each kernel over all pairs of times, "phi_at" and "g_at" (L, T)
            of each at equal times, where late ones of rich networks may be several times less
            certain. Zero where the equations are algebraic.
        linear: the network is, and its fields are Gaussian with the kernels as covariances.
        converged: whether the equations are solved up to the last time asked for.
        message: what to change where not; worth knowing otherwise.
        cost: what it took.
    """

    times: Float[Tensor, "T"]
    loss: Float[Tensor, "T"]
    mse: Float[Tensor, "T"]
    test_mse: Float[Tensor, "T"] | None
    outputs: Float[Tensor, "T All *C"]
    num_train: int
    phi: tuple[Float[Tensor, "T All T All"], ...]
    g: tuple[Float[Tensor, "..."], ...]
    ntk: Float[Tensor, "T P P *C_C"]
    forward_responses: tuple[Float[Tensor, "..."], ...]
    backward_responses: tuple[Float[Tensor, "..."], ...]
    gamma0: float
    fields: Fields | None = None
    standard_error: dict[str, Tensor] = field(default_factory=dict)
    linear: bool = False
    converged: bool = True
    message: str = ""
    cost: Cost = field(default_factory=Cost)

    @property
    def depth(self) -> int:
        """L, the number of hidden layers."""
        return len(self.phi)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, in whose header the numbers are as JSON.

        The file appears whole or not at all. Expanded axes take no room.

        Raises:
            OSError: it cannot be written; a file of that name is then as it was.
        """
        tensors: dict[str, Tensor] = {}
        shapes: dict[str, list[int]] = {}
        numbers: dict[str, object] = {"format": FORMAT, "shapes": shapes}
        for name, value in _items(self):
            if isinstance(value, Tensor):
                shapes[name] = list(value.shape)
                tensors[name] = _compact(value)
            else:
                numbers[name] = value
        files.write(Path(path), tensors, numbers)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> "Solution":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no solution, or is damaged.
        """
        tensors, numbers = files.read(Path(path), device, FORMAT)
        try:
            shapes = numbers["shapes"].items()
            return _assemble(
                cls, numbers, {name: tensors[name].expand(shape) for name, shape in shapes}
            )
        except files.UNREADABLE as error:
            raise files.damaged(Path(path), error) from error


_TUPLES = ("phi", "g", "forward_responses", "backward_responses")


def _items(solution: Solution) -> list[tuple[str, Tensor | object]]:
    """Tensors under flat names, everything else under its own."""
    items: list[tuple[str, Tensor | object]] = []
    for entry in fields(solution):
        name, value = entry.name, getattr(solution, entry.name)
        if isinstance(value, Tensor) or name not in (*_TUPLES, "fields", "standard_error", "cost"):
            items.append((name, value))
        elif name in _TUPLES:
            items += [(f"{name}.{layer}", tensor) for layer, tensor in enumerate(value)]
        elif name == "standard_error":
            items += [(f"{name}.{key}", tensor) for key, tensor in value.items()]
        elif name == "cost":
            items.append((name, vars(value)))
        elif value is not None:
            items += [(f"fields.h.{layer}", tensor) for layer, tensor in enumerate(value.h)]
            items += [(f"fields.z.{layer}", tensor) for layer, tensor in enumerate(value.z)]
    return items


def _assemble(cls: type[Solution], numbers: dict, tensors: dict[str, Tensor]) -> Solution:
    def family(name: str) -> tuple[Tensor, ...]:
        layers = [key for key in tensors if key.rpartition(".")[0] == name]
        return tuple(tensors[f"{name}.{layer}"] for layer in range(len(layers)))

    values: dict = {}
    for entry in fields(cls):
        name = entry.name
        if name in _TUPLES:
            values[name] = family(name)
        elif name == "standard_error":
            prefix = "standard_error."
            values[name] = {
                key.removeprefix(prefix): tensor
                for key, tensor in tensors.items()
                if key.startswith(prefix)
            }
        elif name == "fields":
            h = family("fields.h")
            values[name] = Fields(h, family("fields.z")) if h else None
        elif name == "cost":
            known = {entry.name for entry in fields(Cost)}  # earlier files have more
            values[name] = Cost(**{k: v for k, v in numbers[name].items() if k in known})
        elif name in tensors:
            values[name] = tensors[name]
        elif name in numbers:  # earlier files have fewer
            values[name] = numbers[name]
    return cls(**values)


def _compact(tensor: Tensor) -> Tensor:
    """The tensor with its expanded axes cut to length 1."""
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor
