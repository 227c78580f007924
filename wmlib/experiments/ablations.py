"""What each ingredient is worth: the same training with one thing changed at a time.

    python -m wmlib experiment ablations --jobs 2

Most changes are keys of the config. The others are operations on a freshly built agent, kept here
so that the engine does not carry switches that nobody should turn.
"""

import concurrent.futures
import multiprocessing
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmlib.actor_critic import Critic, ReturnScale
from wmlib.agent import Dreamer
from wmlib.checkpoint import read_metrics
from wmlib.distributions import symexp, symlog, twohot_loss
from wmlib.errors import BadInput
from wmlib.experiments.store import Curve, Store, prepare, provenance
from wmlib.experiments.training import TrainingRun, run_seed
from wmlib.nets import NormSiLU
from wmlib.optim import LaProp, clip, gradients, rate
from wmlib.rssm import Observed
from wmlib.runtime import set_threads
from wmlib.world_model import WorldModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ABLATIONS", "WORLDS", "Ablation", "Adam", "NoScale", "draw", "plan", "results", "run"]


# ---------------------------------------------------------------- operations


class Adam(LaProp):
    """LaProp's averages in Adam's order: the mean of g over the root mean square of g."""

    def move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Update these tensors, which all have gradients, with the settings of their group."""
        grads = clip(params, gradients(params), group["agc"])
        beta1, beta2 = group["betas"]
        for p, grad, update, mean, square in zip(params, grads, *self.moments(params), strict=True):
            mean.lerp_(grad, 1 - beta1)
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            size = (square / (1 - beta2**update)).sqrt_().add_(1e-8)
            p.addcdiv_(mean, size, value=-rate(group, update) / (1 - beta1**update))


class LayerNormSiLU(nn.Module):
    """SiLU(LayerNorm(x)): subtracts the mean too, and has a bias."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.norm = nn.LayerNorm(size, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer. (..., size) -> same."""
        return F.silu(self.norm(x))


class NoScale(ReturnScale):
    """Leaves returns as they are."""

    def forward(self, returns: Tensor) -> Tensor:
        """Give 1, whatever the returns."""
        return torch.ones_like(self.low)


def use_adam(agent: Dreamer) -> None:
    """Adam instead of LaProp; same rate, warm-up, fall and clipping."""
    agent.optimizer = agent.build_optimizer(Adam)


def use_layer_norm(agent: Dreamer) -> None:
    """LayerNorm instead of RMSNorm, everywhere."""
    for module in list(agent.modules()):
        for name, child in module.named_children():
            if isinstance(child, NormSiLU):
                setattr(module, name, LayerNormSiLU(len(child.gain), child.eps))
    agent.critic.slow.requires_grad_(False)
    agent.optimizer = agent.build_optimizer()


def drop_return_scale(agent: Dreamer) -> None:
    """Advantages in the units of the reward."""
    agent.return_scale = NoScale()


def symlog_mean(logits: Tensor, bins: Tensor) -> Tensor:
    """The mean is taken between bins that are even in symlog space, before the symexp."""
    return symexp((torch.softmax(logits.float(), -1) * bins).sum(-1))


class SymlogWorldModel(WorldModel):
    """A world model whose reward head predicts symlog(reward)."""

    def reward(self, feature: Tensor) -> Tensor:
        """Expected reward that arrives with this state. (..., F) -> (...)."""
        return symlog_mean(self.reward_head(feature), self.bins)

    def losses(self, batch: dict[str, Tensor], seen: Observed) -> dict[str, Tensor]:
        """The five world-model losses, each (B, T)."""
        return super().losses(batch | {"reward": symlog(batch["reward"])}, seen)


class SymlogCritic(Critic):
    """A critic that predicts symlog(return)."""

    def mean(self, logits: Tensor) -> Tensor:
        """Expected value. (..., bins) -> (...)."""
        return symlog_mean(logits, self.bins)

    def loss(self, logits: Tensor, feature: Tensor, returns: Tensor) -> Tensor:
        """As the critic's, with symlog targets."""
        with torch.no_grad():
            slow = self.mean(self.slow(feature.detach()[:, :-1]))
        targets = symlog(torch.stack([returns, slow]))  # (2, B, T-1)
        return twohot_loss(logits[:, :-1], targets, self.bins).sum(0)


def use_symlog_twohot(agent: Dreamer) -> None:
    """Two-hot over symlog(value) with even bins: the mean is taken before the symexp, not after."""
    agent.world.__class__ = SymlogWorldModel
    agent.critic.__class__ = SymlogCritic
    agent.world.bins = torch.linspace(-20, 20, agent.config.bins)
    agent.critic.bins = agent.world.bins.clone()


# ---------------------------------------------------------------- the list


@dataclass(frozen=True)
class Ablation:
    """One change to the recipe."""

    about: str
    changes: dict = field(default_factory=dict)  # of the config
    operation: Callable[[Dreamer], None] | None = None
    everywhere: bool = False  # on CartPole too


ABLATIONS: dict[str, Ablation] = {
    "as it is": Ablation("presets curtain and cartpole", everywhere=True),
    "no unimix": Ablation("latents and policy may rule classes out", {"unimix": 0.0}),
    "free nats 1": Ablation(
        "KL below 1 nat gives no gradient, as in the paper", {"free_nats": 1.0}
    ),
    "KL 0.5 / 0.1": Ablation("dyn scale 0.5 instead of 1", {"dyn_scale": 0.5}),
    "Adam": Ablation("instead of LaProp", operation=use_adam, everywhere=True),
    "no replay value": Ablation(
        "the critic learns in dreams only", {"replay_value_scale": 0.0}, everywhere=True
    ),
    "symlog two-hot": Ablation(
        "bins even in symlog space, mean before symexp",
        operation=use_symlog_twohot,
        everywhere=True,
    ),
    "LayerNorm": Ablation("instead of RMSNorm", operation=use_layer_norm),
    "lambda 0.95": Ablation("as in the paper, and in preset tiny", {"lam": 0.95}),
    "dreams of 8 steps": Ablation("as in preset tiny", {"horizon": 8}),
    "entropy bonus 0.003": Ablation("as in preset tiny", {"entropy_scale": 0.003}),
    "no return scale": Ablation("advantages as they are", operation=drop_return_scale),
    "dream from last 4": Ablation("of the 16 rows of a window", {"imagine_last": 4}),
    "dream from last 2": Ablation("of the 16 rows of a window", {"imagine_last": 2}),
    "ratio x 1/2": Ablation("half the updates per step", {"ratio": 16.0}),
    "ratio x 2": Ablation("twice the updates per step", {"ratio": 64.0}),
    "no stored latents": Ablation(
        "windows start from zeros", {"stored_latents": False}, everywhere=True
    ),
}

WORLDS: dict[str, TrainingRun] = {
    "Curtain": TrainingRun(
        "wmlib/Curtain-v0",
        seeds=(0, 1, 2),
        preset="curtain",
        steps=12_000,
        episodes=1000,
        eval_every=2000,
        curve_episodes=200,
    ),
    "CartPole": TrainingRun("CartPole-v1", (0, 1, 2), "cartpole", steps=8_000, episodes=100),
}


def plan() -> list[tuple[str, str, int]]:
    """All (world, ablation, seed), seed by seed, so that a part of the list is a fair table too."""
    runs = [
        (world, name, seed)
        for world, spec in WORLDS.items()
        for name, ablation in ABLATIONS.items()
        for seed in spec.seeds
        if world == "Curtain" or ablation.everywhere
    ]
    return sorted(runs, key=lambda r: (r[2], r[0] != "Curtain"))


def train_one(world: str, name: str, seed: int) -> tuple[dict[str, Any], Curve]:
    """Train and evaluate one run in this process: its line and its curve."""
    ablation = ABLATIONS[name]
    threads = set_threads(1)
    spec = replace(WORLDS[world], changes=ablation.changes)
    with tempfile.TemporaryDirectory() as folder:
        line = run_seed(spec, seed, Path(folder) / "run", ablation.operation)
        columns = read_metrics(Path(folder) / "run" / "metrics.csv")
    keep = np.isfinite(columns["eval_return"])
    curve = {k: columns[k][keep] for k in ("steps", "updates", "seconds", "eval_return")}
    about = {"world": world, "ablation": name, "seed": seed}
    return about | line | provenance("ablations --jobs 2", threads), curve


def results(out: Path) -> Store:
    """Where the results are: curves by (world, ablation, seed)."""
    return Store("ablations", out, ("world", "ablation", "seed"))


def run(out: Path, jobs: int = 1, seeds: tuple[int, ...] = ()) -> list[dict]:
    """Do the runs that are not stored yet, `jobs` at a time, one thread each; all stored lines.

    Raises:
        BadInput: a directory that cannot be written, or jobs below 1.
    """
    if jobs < 1:
        raise BadInput(f"--jobs is {jobs}; it must be at least 1.")
    store = results(out)
    prepare(out, None, store.name)
    done = store.done()
    todo = [key for key in plan() if key not in done and (not seeds or key[2] in seeds)]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, spawn, max_tasks_per_child=1) as pool:
        futures = [pool.submit(train_one, *key) for key in todo]
        try:
            for future in concurrent.futures.as_completed(futures):
                store.add(*future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return store.runs()


def draw(out: Path) -> "Figure":
    """Final returns of every ablation: a panel a world, a row an ablation, one dot a seed."""
    from matplotlib.figure import Figure

    from wmlib.figures import AMBER, SLATE

    lines = results(out).runs()
    figure = Figure(figsize=(10, 4.4), dpi=100, layout="constrained")
    for ax, world in zip(figure.subplots(1, 2), WORLDS, strict=True):
        here = [line for line in lines if line["world"] == world]
        names = [name for name in ABLATIONS if any(li["ablation"] == name for li in here)]
        for i, name in enumerate(names):
            values = [li["eval_return_mode"] for li in here if li["ablation"] == name]
            ax.plot(values, [i] * len(values), "o", color=SLATE, alpha=0.7)
            ax.plot(np.mean(values), i, "|", color=AMBER, ms=16, mew=3)
            if i == 0:
                ax.axvline(np.mean(values), color=AMBER, lw=1, ls="--")
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.set(title=f"{world}, {WORLDS[world].steps:,} steps", xlabel="return, most likely action")
    return figure
