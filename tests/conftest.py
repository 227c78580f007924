"""Small worlds, random rows and a NumPy version of the layers, shared by the tests.

The NumPy functions are written from the formulas, not from `wmlib`; they read only its parameters.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", WMLIB_THREADS="1")  # read by torch when it is imported

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wmlib.config import Config

VECTOR = gym.spaces.Box(-np.inf, np.inf, (6,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)
SYMBOL = gym.spaces.Discrete(5)
BUTTONS = gym.spaces.Discrete(3)
STICKS = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

# every size differs from every other, so that a swapped axis shows
MINI = Config(
    deter=32,
    hidden=12,
    stoch=3,
    classes=5,
    units=16,
    depth=4,
    blocks=4,
    bins=41,
    horizon=4,
    lr=1e-3,
    warmup=0,
)


# Pytest itself may run in the background, where signals are ignored: not so what it tests.
for name in ("SIGINT", "SIGHUP", "SIGTERM"):
    if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        handler = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
        signal.signal(getattr(signal, name), handler)


@pytest.fixture(autouse=True)
def fresh():
    """Every test begins with the same seed, one thread, and no style that a notebook has set."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if matplotlib := sys.modules.get("matplotlib"):
        matplotlib.rcdefaults()


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the course as a web site, built without a warning."""
    out = tmp_path_factory.mktemp("site") / "made"
    builder = Path(__file__).parent.parent / "site" / "build.py"
    run = subprocess.run([sys.executable, builder, out], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr  # a warning of Sphinx is an error
    return out


def pick_argmax(probs):
    """Stand-in for `sample_onehot` without chance."""
    return F.one_hot(probs.argmax(-1), probs.shape[-1]).to(probs.dtype)


@pytest.fixture
def argmax_sampling(monkeypatch):
    monkeypatch.setattr("wmlib.rssm.sample_onehot", pick_argmax)
    monkeypatch.setattr("wmlib.distributions.sample_onehot", pick_argmax)


def shake(module, size=0.3, seed=0):
    """Move every parameter by random noise: zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return module


def randomise(agent, seed=0):
    """Undo the zero initialisations, keep predicted numbers moderate, and make the KL large."""
    generator = torch.Generator().manual_seed(seed)
    count = agent.config.bins
    with torch.no_grad():
        heads = (agent.world.reward_head, agent.critic.fast, agent.critic.slow)
        for layer, peak in zip((head.out for head in heads), (1.0, 2.0, 2.5), strict=True):
            layer.weight.copy_(0.5 * torch.randn(layer.weight.shape, generator=generator))
            layer.bias.copy_(-3 * (torch.linspace(-20, 20, count) - peak).abs())
        for layer in (agent.actor.out, agent.world.rssm.prior_net[-1]):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        agent.world.rssm.prior_net[-1].weight.mul_(2)
        agent.world.rssm.posterior_net[-1].weight.mul_(8)
    return agent


def make_sample(obs_space, act_space, rows=4, steps=8, seed=0):
    """Random rows as a replay gives them, with a terminal, a time limit and two resets inside."""
    rng = np.random.default_rng(seed)

    def draw(space, *batch):
        if isinstance(space, gym.spaces.Dict):
            return {key: draw(part, *batch) for key, part in space.spaces.items()}
        if isinstance(space, gym.spaces.MultiDiscrete):
            return rng.integers(0, space.nvec, (*batch, *space.shape))
        if isinstance(space, gym.spaces.Discrete):
            return rng.integers(0, space.n, batch)
        if space.dtype == np.uint8:
            return rng.integers(0, 256, (*batch, *space.shape)).astype(np.uint8)
        return rng.normal(0, 1.5, (*batch, *space.shape)).astype(np.float32)

    sample = {
        "obs": draw(obs_space, rows, steps),
        "action": draw(act_space, rows, steps),
        "prev_action": draw(act_space, rows, steps),
        "reward": rng.normal(0, 1, (rows, steps)).astype(np.float32),
    }
    sample["prev_action"][:, 1:] = sample["action"][:, :-1]
    for key in ("is_first", "is_last", "is_terminal"):
        sample[key] = np.zeros((rows, steps), bool)
    sample["is_first"][:, 0] = True
    if rows > 2 and steps > 5:
        sample["is_last"][0, 2] = sample["is_terminal"][0, 2] = sample["is_first"][0, 3] = True
        sample["is_last"][1, 4] = sample["is_first"][1, 5] = True
        sample["is_last"][2, -1] = sample["is_terminal"][2, -1] = True
    sample["reward"][sample["is_first"]] = 0
    return sample


# ---------------------------------------------------------------- NumPy layers


def array(tensor):
    """Tensor -> float64 array."""
    return tensor.detach().cpu().double().numpy()


def np_sigmoid(x):
    return 1 / (1 + np.exp(-x))


def np_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def np_unimix(logits, mix=0.01):
    return (1 - mix) * np_softmax(logits) + mix / logits.shape[-1]


def np_symlog(x):
    return np.sign(x) * np.log(1 + np.abs(x))


def np_silu_norm(x, norm):
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4) * array(norm.gain)
    return x * np_sigmoid(x)


def np_linear(x, layer):
    return x @ array(layer.weight).T + array(layer.bias)


def np_nln(x, layer):
    return np_silu_norm(np_linear(x, layer.linear), layer.norm)


def np_head(x, head):
    for layer in head.mlp:
        x = np_nln(x, layer)
    return np_linear(x, head.out)


def np_blocks(parts, layer):
    """Block k sees only parts[k]. List of (N, in/g) -> list of (N, out/g)."""
    weight, bias = array(layer.weight), array(layer.bias)
    return [part @ weight[k] + bias[k] for k, part in enumerate(parts)]


def np_conv(x, conv, stride=1):
    """Padded convolution, tap by tap. (N, H, W, in) -> (N, H/stride, W/stride, out)."""
    weight, size = array(conv.weight), conv.weight.shape[-1]
    pad = 2 if size == 5 else 1
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = x.shape[1] // stride, x.shape[2] // stride
    y = np.zeros((len(x), height, width, weight.shape[0])) + array(conv.bias)
    for i in range(size):
        for j in range(size):
            rows, cols = slice(i, i + stride * height, stride), slice(j, j + stride * width, stride)
            y += padded[:, rows, cols] @ weight[:, :, i, j].T
    return y


def np_twohot(x, bins):
    """Share every number between its two neighbouring bins, one number at a time."""
    target = np.zeros((*x.shape, len(bins)))
    for index, number in np.ndenumerate(x):
        right = int(np.clip(np.searchsorted(bins, number), 1, len(bins) - 1))
        share = (number - bins[right - 1]) / (bins[right] - bins[right - 1])
        target[(*index, right - 1)], target[(*index, right)] = 1 - share, share
    return target
