import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jacrev, stack_module_state, vmap

from ntkscale.networks import MLP, activation


def neuron_by_neuron(net: MLP, x: Tensor, scale: float, first: float) -> Tensor:
    """The definition, one sample and one neuron at a time, without centring."""
    tensors = {name: p.detach() for name, p in net.named_parameters()}
    phi = activation(net.activation.name)
    rows = []
    for sample in x:
        signal, divisor = sample, first
        for layer in range(1, net.depth + 1):
            w, b = tensors[f"hidden{layer}"], tensors.get(f"bias{layer}")
            h = [
                (w[i] * signal).sum() / divisor + (0 if b is None else b[i])
                for i in range(net.width)
            ]
            signal, divisor = scale * phi(torch.stack(h)), net.width**0.5
        rows.append(torch.stack([(a * signal).sum() for a in tensors["readout"]]))
    return torch.stack(rows) / (net.gamma0 * net.width)


@pytest.mark.parametrize(
    ("name", "depth", "bias", "scale_input", "normalised", "normalises"),
    [
        ("relu", 1, False, True, None, False),
        ("relu", 2, True, False, None, False),
        ("relu", 3, True, True, None, True),
        ("relu2", 1, True, True, None, True),
        ("relu3", 2, False, True, False, False),
        ("tanh", 2, True, True, True, True),
        ("gelu", 4, False, False, None, True),
        ("linear", 2, False, True, None, False),
    ],
)
def test_forward_is_the_definition(
    name: str,
    depth: int,
    bias: bool,
    scale_input: bool,
    normalised: bool | None,
    normalises: bool,
) -> None:
    seed = int(torch.randint(10**6, ()))
    net = MLP(
        5,
        3,
        width=11,
        depth=depth,
        activation=name,
        bias=bias,
        gamma0=0.7,
        scale_input=scale_input,
        normalised=normalised,
        centered=False,
        seed=seed,
        dtype=torch.float64,
    )
    x = torch.randn(4, 5, dtype=torch.float64)
    scale = activation(name).second_moment ** -0.5 if normalises else 1.0
    expected = neuron_by_neuron(net, x, scale, 5**0.5 if scale_input else 1.0)
    torch.testing.assert_close(net(x), expected)
    assert list(net.preactivations(x)) == [f"hidden{i}" for i in range(1, depth + 1)]


def test_image_shaped_inputs_are_flattened() -> None:
    net = MLP(12, 2, width=9, centered=False)
    x = torch.randn(5, 3, 2, 2)
    assert torch.equal(net(x), net(x.flatten(1)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["relu", "relu2"])
def test_blocks_of_neurons_give_the_same_function(bias: bool, name: str) -> None:
    # 900 x 1,100 doubles are 8 MB, and 1,100 is no multiple of the block.
    net = MLP(3, 2, width=1100, bias=bias, activation=name, seed=4, dtype=torch.float64)
    x = torch.randn(900, 3, dtype=torch.float64)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn_like(p)
    whole = net.features(x, dict(net.named_parameters()))[1]
    initial = {k.removeprefix("initial_"): v for k, v in net.named_buffers()}
    whole = (whole - net.features(x, initial)[1]) / (net.gamma0 * net.width)
    torch.testing.assert_close(net(x), whole, rtol=1e-11, atol=1e-13)

    weight = torch.randn_like(whole)
    parameters = list(net.parameters())
    blocked = torch.autograd.grad((net(x) * weight).sum(), parameters)
    together = torch.autograd.grad((whole * weight).sum(), parameters)
    for a, b in zip(blocked, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("count", [6, 600])  # one piece, and blocks of neurons
def test_members_of_an_ensemble_agree_with_themselves(count: int) -> None:
    members = [
        MLP(2, 1, width=512, bias=True, gamma0=g, seed=s, dtype=torch.float64)
        for s, g in enumerate((0.1, 1.0, 4.0))
    ]
    with torch.no_grad():
        for member in members:
            for p in member.parameters():
                p += 0.1 * torch.randn_like(p)
    parameters, buffers = stack_module_state([*members])
    assert buffers["gamma0"].tolist() == [0.1, 1.0, 4.0]
    x = torch.randn(count, 2, dtype=torch.float64)

    def call(p: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return functional_call(members[0], (p, b), (x,))

    together = vmap(call)(parameters, buffers)
    for output, member in zip(together, members, strict=True):
        torch.testing.assert_close(output, member(x))


def test_jacobian_by_two_roads_and_compiled() -> None:
    net = MLP(2, 2, width=384, bias=True, gamma0=0.5, seed=1, dtype=torch.float64)
    parameters = {k: v.detach() for k, v in net.named_parameters()}
    x = torch.randn(400, 2, dtype=torch.float64)

    def one(p: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(net, p, (sample[None],))[0]

    batch = jacrev(lambda p: functional_call(net, p, (x,)))(parameters)
    single = vmap(jacrev(one), (None, 0))(parameters, x)
    for name in parameters:
        torch.testing.assert_close(batch[name], single[name])

    with torch.no_grad():
        for p in net.parameters():
            p += 0.1
    readout = dict(net.named_parameters())["readout"]
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))
    (a,) = torch.autograd.grad(compiled(x).square().sum(), readout)
    (b,) = torch.autograd.grad(net(x).square().sum(), readout)
    torch.testing.assert_close(a, b)
