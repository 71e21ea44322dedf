"""Kernels that neural-tangents 0.6.5 (jax 0.4.23, float64) printed.

``python tests/reference/neural_tangents_values.py`` in an environment with neural-tangents prints
them again. Weights have variance 1.5, biases 0.3, the read-out has none. Values are (nngp, ntk).
`MLP`: two hidden layers, by nonlinearity. `CNN`: two convolutions, by nonlinearity, 2 x 2 pooling
after each, and read-out. `ENSEMBLE`: one hidden layer of erf trained on X1, by time; (mean,
covariance) on X2.
"""

X1 = [[1.0, -0.5, 0.25], [0.3, 0.8, -1.2], [-0.7, 0.1, 0.4]]
X2 = [[0.2, 0.6, -0.9], [1.5, 0.5, 0.5]]
TARGETS = [1.0, -1.0, 0.5]
# Images are sin(s k + 0.3) for k = 0 ... n C H W - 1, shaped (n, C, H, W) = (2, 2, 8, 9).
IMAGE_STEPS = (0.37, 0.81)

MLP = {
    "relu": (
        [
            [0.495167943536213, 0.819190224177853],
            [0.849800469983621, 0.718342342812273],
            [0.436359607446908, 0.481332978277382],
        ],
        [
            [0.825299171728077, 1.83965976982154],
            [2.23095105566492, 1.25429512150865],
            [0.721626316382038, 0.713567523599231],
        ],
    ),
    "erf": (
        [
            [0.256616531425242, 0.55890286537896],
            [0.695773947720847, 0.30206908192846],
            [0.246012858537705, 0.153268131544212],
        ],
        [
            [0.581472070792616, 1.65954788318262],
            [2.29448526440666, 0.742291976923828],
            [0.539997543079669, 0.268392280985567],
        ],
    ),
    "gelu": (
        [
            [0.304508248679014, 0.611932820664255],
            [0.649574727998715, 0.492797117837467],
            [0.260060831429141, 0.278473271482581],
        ],
        [
            [0.571760172340767, 1.57908912389029],
            [1.85834859722224, 0.960853672408889],
            [0.486423096847565, 0.44589637246133],
        ],
    ),
    "tanh": (
        [
            [0.228455216707129, 0.466119972152889],
            [0.562895511601768, 0.266526288036924],
            [0.219792325861912, 0.145882556568319],
        ],
        [
            [0.510659843424361, 1.33035873658484],
            [1.73694338524783, 0.644809624248333],
            [0.476895649011318, 0.261549173179887],
        ],
    ),
    "linear": (
        [[0.759375, 2.671875], [2.9475, 1.40625], [0.63, 0.225]],
        [[1.828125, 7.565625], [8.3925, 3.76875], [1.44, 0.225]],
    ),
}
CNN = {
    ("relu", False, "global"): (
        [[0.467827723511793, 0.467850807897753], [0.467835015371194, 0.467846288559833]],
        [[0.818434176133831, 0.81847831371989], [0.818459309082987, 0.818459734399895]],
    ),
    ("relu", False, "flatten"): (
        [[0.495557963699955, 0.491573417842724], [0.491391626428162, 0.495234264084567]],
        [[0.894404147476252, 0.879655268669578], [0.879012560580893, 0.893169911903941]],
    ),
    ("relu", True, "global"): (
        [[0.3780380425004, 0.378228918445934], [0.378245527109232, 0.37809046826318]],
        [[0.694975286085347, 0.695741711685141], [0.695768030392778, 0.695051689807713]],
    ),
    ("relu", True, "flatten"): (
        [[0.390298885767326, 0.392915538398857], [0.392996502340095, 0.390455896982883]],
        [[0.729250097094642, 0.739082786200302], [0.739329071680601, 0.729705277610458]],
    ),
    ("erf", False, "global"): (
        [[0.313340568929679, 0.313348118291161], [0.313366082186016, 0.313325557622314]],
        [[0.74488318226579, 0.744914597808639], [0.744964982221475, 0.744842801212267]],
    ),
    ("erf", False, "flatten"): (
        [[0.336927985174001, 0.327829980418936], [0.327466844257224, 0.336127110068838]],
        [[0.81959611949248, 0.7899932757635], [0.788797799057511, 0.816995592745059]],
    ),
    ("erf", True, "global"): (
        [[0.371755220397654, 0.372039829456389], [0.372051474680895, 0.371725286562618]],
        [[0.86203254718904, 0.86305505273754], [0.863077568671834, 0.861932305472313]],
    ),
    ("erf", True, "flatten"): (
        [[0.38003224782652, 0.386154884281174], [0.38626531304788, 0.380212796600341]],
        [[0.888420318649086, 0.908471763873852], [0.908813211782864, 0.889004977294252]],
    ),
}
ENSEMBLE = {
    0.7: (
        [-0.26020164642045013, 0.14820202097071672],
        [[0.2974503537760705, 0.08165879992490141], [0.08165879992490141, 0.5875423027249945]],
    ),
    5.0: (
        [-0.7277957183311314, 0.5048530477332185],
        [
            [0.010780970170373605, -0.0024362782108714176],
            [-0.0024362782108714176, 0.349940154490448],
        ],
    ),
    float("inf"): (
        [-0.7679478783576674, 0.5637446351103643],
        [
            [0.007357674597644248, -0.0031813970402538028],
            [-0.0031813970402538028, 0.3450454964067122],
        ],
    ),
}


def main() -> None:
    """Print the values."""
    import jax  # pyright: ignore[reportMissingImports]
    import neural_tangents as nt  # pyright: ignore[reportMissingImports]
    import numpy as np
    from neural_tangents import stax  # pyright: ignore[reportMissingImports]

    jax.config.update("jax_enable_x64", True)
    w, b = 1.5**0.5, 0.3**0.5
    phi = {
        "relu": stax.Relu(),
        "erf": stax.Erf(),
        "gelu": stax.Gelu(),
        "tanh": stax.ElementwiseNumerical(jax.numpy.tanh, deg=100),
        "linear": stax.Identity(),
    }
    x1, x2 = np.array(X1), np.array(X2)
    for name in MLP:
        layers = (stax.Dense(1, w, b), phi[name]) * 2
        kernel = stax.serial(*layers, stax.Dense(1, w))[2]
        print(name, [kernel(x1, x2, get).tolist() for get in ("nngp", "ntk")])
    images = [
        np.sin(np.arange(2 * 2 * 8 * 9) * step + 0.3).reshape(2, 2, 8, 9).transpose(0, 2, 3, 1)
        for step in IMAGE_STEPS
    ]
    for name, halve, readout in CNN:
        layers = (stax.Conv(1, (3, 3), padding="SAME", W_std=w, b_std=b), phi[name])
        layers += (stax.AvgPool((2, 2), (2, 2)),) if halve else ()
        end = stax.Flatten() if readout == "flatten" else stax.GlobalAvgPool()
        kernel = stax.serial(*layers, *layers, end, stax.Dense(1, w))[2]
        print(name, halve, readout, [kernel(*images, get).tolist() for get in ("nngp", "ntk")])
    kernel = stax.serial(stax.Dense(1, w, b), phi["erf"], stax.Dense(1, w))[2]
    predict = nt.predict.gradient_descent_mse_ensemble(
        kernel, x1, np.array(TARGETS)[:, None], diag_reg=0.0
    )
    for time in ENSEMBLE:
        t = None if time == float("inf") else time
        print(time, predict(t=t, x_test=x2, get="ntk", compute_cov=True))


if __name__ == "__main__":
    main()
