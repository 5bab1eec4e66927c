"""jaxexample: the model."""

import jax
import jax.numpy as jnp

from aegis_flower.learners import Jax

SHAPES = {
    "conv1": (3, 3, 1, 6),
    "conv2": (3, 3, 6, 16),
    "dense1": (2 * 2 * 16, 60),
    "dense2": (60, 42),
    "dense3": (42, 10),
}


def init(key):
    """Draws the parameters: a kernel of each layer, scaled by its inputs, and a bias of zeros."""
    params = {}
    for name, shape in SHAPES.items():
        key, drawn = jax.random.split(key)
        inputs = jnp.prod(jnp.array(shape[:-1]))
        params[name] = {"kernel": jax.random.normal(drawn, shape) / jnp.sqrt(inputs), "bias": jnp.zeros(shape[-1])}
    return params


def _conv(layer, x):
    made = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return made + layer["bias"]


def _pool(x):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def apply(params, x):
    """Class scores, shape (images, 10), of pixels between -1 and 1."""
    x = x.reshape(-1, 8, 8, 1)  # a vault's rows are flat
    x = _pool(jnp.tanh(_conv(params["conv1"], x)))
    x = _pool(jnp.tanh(_conv(params["conv2"], x)))
    x = x.reshape(len(x), -1)
    for name in ("dense1", "dense2"):
        x = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params["dense3"]["kernel"] + params["dense3"]["bias"]


def create_model(spec):
    """What both sides start from."""
    return Jax(init, apply, spec)
