"""The whole agent: world model, actor and critic, acting and learning.

Shapes: N environments, B windows of T rows, K of them dreamt from, H horizon.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wmlib.actor_critic import Critic, ReturnScale, dream_losses, make_actor, replay_value_loss
from wmlib.config import Config
from wmlib.distributions import kl_divergence
from wmlib.errors import BadInput
from wmlib.losses import total
from wmlib.optim import LaProp
from wmlib.rssm import Observed, State
from wmlib.runtime import autocast, can_compile
from wmlib.spaces import Space, Tree, alike, decode_action, describe, each, encode_action
from wmlib.world_model import WorldModel

__all__ = ["Dream", "Dreamer", "Memory"]


@dataclass
class Memory:
    """What the agent carries from one environment step to the next, for N environments."""

    state: State
    action: Tensor  # (N, A), the action just taken


@dataclass
class Dream:
    """An imagined future of N contexts, as NumPy arrays; index 0 is the last real step.

    `observation` is in the environment's units (images in [0, 1]); `real` holds the context's own
    rows, so that both can be drawn one above the other.
    """

    observation: Tree  # (N, H+1, ...), or a dict of such arrays
    reward: np.ndarray  # (N, H+1)
    continues: np.ndarray  # (N, H+1), discount included
    value: np.ndarray  # (N, H+1)
    action: np.ndarray  # (N, H, A)
    reconstruction: Tree  # (N, T, ...): the context as the posterior sees it


class Dreamer(nn.Module):
    """DreamerV3. The constructor is the table of contents."""

    def __init__(self, obs_space: Space, act_space: Space, config: Config):
        super().__init__()
        self.obs_space = obs_space
        self.act_space = act_space
        self.config = config
        feature = config.deter + config.stoch * config.classes
        self.world = WorldModel(obs_space, act_space, config)
        self.actor = make_actor(feature, act_space, config)
        self.critic = Critic(feature, config)
        self.return_scale = ReturnScale()
        self.optimizer = self.build_optimizer()

    def build_optimizer(self, kind: type[LaProp] = LaProp) -> LaProp:
        """A fresh optimiser over all parameters that learn: two groups, of which the actor is one.

        Call it again, `agent.optimizer = agent.build_optimizer()`, after replacing a part of the
        agent. `kind` takes LaProp's settings.
        """
        c = self.config
        actor = set(self.actor.parameters())
        learning = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learning if p not in actor]},
            {"params": [p for p in learning if p in actor], "lr": c.lr * c.actor_lr},
        ]
        return kind(groups, lr=c.lr, warmup=c.warmup, agc=c.agc, decay=c.lr_decay)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.world.bins.device

    # ------------------------------------------------------------ acting

    def initial(self, count: int) -> Memory:
        """Memory of `count` environments that have just been reset."""
        state = self.world.rssm.initial(count, self.device)
        return Memory(state, torch.zeros(count, self.actor.out.out_features, device=self.device))

    @torch.no_grad()
    def act(
        self, obs: Tree, is_first: np.ndarray, memory: Memory, mode: bool = False
    ) -> tuple[np.ndarray, Memory]:
        """See N observations, choose N actions.

        obs (N, ...), is_first (N,) -> actions as `RowEnv.step` takes them (int64 (N[, k]), or
        float32 (N, A) unclipped), and the memory for the next call. `mode` takes the most likely
        action instead of drawing one.
        """
        now = {"obs": obs, "prev_action": memory.action, "is_first": is_first}
        batch = each(lambda x: x.unsqueeze(1), self._tensor(now))
        with autocast(self.device):
            state = self.world.observe(batch, memory.state).state
            state = State(state.h[:, 0], state.z[:, 0])
            policy = self.actor(state.feature)
            action = policy.mode() if mode else policy.sample()
        chosen = decode_action(action, self.act_space)
        return chosen.cpu().numpy(), Memory(state, action)

    def taken(self, memory: Memory, action: np.ndarray) -> Memory:
        """Memory of having taken another action than the agent's own choice."""
        return Memory(memory.state, encode_action(self._tensor(action), self.act_space))

    def _tensor(self, array: Tree) -> Tree:
        return each(lambda x: torch.as_tensor(x, device=self.device), array)

    # ------------------------------------------------------------ learning

    def tensors(self, sample: dict[str, np.ndarray]) -> tuple[dict[str, Tensor], State | None]:
        """Replay sample -> batch of tensors on the device, and the windows' stored start states."""
        batch = {k: self._tensor(v) for k, v in sample.items() if k != "index"}
        for key in ("action", "prev_action"):
            batch[key] = encode_action(batch[key], self.act_space)
        if "deter" not in batch:
            return batch, None
        z = torch.nn.functional.one_hot(batch.pop("stoch").long(), self.config.classes)
        return batch, State(batch.pop("deter").float(), z.float())

    def update(
        self,
        batch: dict[str, Tensor],
        start: State | None = None,
        behaviour: bool = True,
    ) -> tuple[dict[str, Tensor], State]:
        """One gradient step on B windows; returns metrics (scalar tensors) and the fresh latents.

        With behaviour=False only the world model learns. A loss or gradient that is not finite
        changes nothing: it raises FloatingPointError before the optimiser runs.
        """
        scale_before = self.return_scale.low.clone(), self.return_scale.high.clone()
        with autocast(self.device):
            losses, metrics, state = self.losses(batch, start, behaviour)
            loss = total(losses, self.scales(behaviour))
        metrics |= {name: value.detach().mean() for name, value in losses.items()}
        loss.backward()
        if bad := self._not_finite(metrics):
            self.return_scale.low.copy_(scale_before[0])
            self.return_scale.high.copy_(scale_before[1])
            self.optimizer.zero_grad()
            raise FloatingPointError(f"not finite: {', '.join(bad)}")
        self.optimizer.step()
        self.optimizer.zero_grad()
        if behaviour:
            self.critic.update_slow()
        return metrics, state

    def _not_finite(self, metrics: dict[str, Tensor]) -> list[str]:
        """Names of losses (or 'gradient') that are NaN or infinite."""
        if self.device.type == "meta":
            return []
        grads = [p.grad for p in self.parameters() if p.grad is not None]
        sizes = torch.stack([*metrics.values(), *torch._foreach_norm(grads)])
        if sizes.isfinite().all():
            return []
        return [name for name, value in metrics.items() if not value.isfinite()] or ["gradient"]

    def scales(self, behaviour: bool = True) -> dict[str, float]:
        """Weight of every loss in the total."""
        world = self.world.scales()
        if not behaviour:
            return world
        return world | {"policy": 1.0, "value": 1.0, "repval": self.config.replay_value_scale}

    def losses(
        self, batch: dict[str, Tensor], start: State | None = None, behaviour: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], State]:
        """All losses of one batch (unreduced), metrics, and the posterior states (detached)."""
        seen = self.world.observe(batch, start)
        losses = self.world.losses(batch, seen)
        with torch.no_grad():  # in nats, before free nats and scales
            metrics = {"kl": kl_divergence(seen.posterior, seen.prior).mean()}
        if behaviour:
            more, extra = self.behaviour_losses(batch, seen)
            losses |= more
            metrics |= extra
        return losses, metrics, seen.state.detach()

    def behaviour_losses(
        self, batch: dict[str, Tensor], seen: Observed
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Dream from the last K rows of each window; losses of actor, critic and replay value."""
        c = self.config
        rows, steps = seen.state.h.shape[:2]
        k = min(c.imagine_last or steps, steps)
        recent = State(*(part[:, -k:] for part in seen.state))  # (B, K, ...)
        start = State(*(part.flatten(0, 1) for part in recent.detach()))  # (N = B*K, ...)
        dream = self.world.imagine(lambda x: self.actor(x).sample(), start, c.horizon)
        with torch.no_grad():
            reward = self.world.reward(dream.feature)  # (N, H+1)
            continues = self.world.continues(dream.feature)
        learnt = dream_losses(
            self.actor, self.critic, self.return_scale, dream, reward, continues, c
        )
        bootstrap = learnt.returns[:, 0].view(rows, k)
        losses = {
            "policy": learnt.policy,
            "value": learnt.value,
            "repval": replay_value_loss(self.critic, batch, recent.feature, bootstrap, c),
        }
        metrics = {
            "entropy": learnt.entropy.mean(),
            "return": learnt.returns.mean(),
            "return_scale": learnt.scale,
        }
        return losses, metrics

    def compile_parts(self) -> "Dreamer":
        """Compile what is called most, in place: call it once the agent is on its device.

        On CUDA that is the whole of `losses`, elsewhere the two steps of the recurrent model, which
        compile faster. Weights and their names stay; numbers differ by rounding and, on CUDA, by
        other random numbers. Where nothing can be compiled a sentence says so.
        """
        if not can_compile(self.device):
            return self
        rssm: Any = self.world.rssm  # methods, unlike functions, follow a copy of the agent
        if self.device.type == "cuda":
            compiled = torch.compile(type(self).losses, mode="reduce-overhead", dynamic=False)
            self.losses = MethodType(_keeping(compiled), self)
        else:
            rssm.core.compile(dynamic=False)
            rssm.step = MethodType(torch.compile(type(rssm).step, dynamic=False), rssm)
        return self

    # ------------------------------------------------------------ dreaming

    @torch.no_grad()
    def imagine(
        self,
        context: dict[str, np.ndarray],
        horizon: int = 15,
        actions: np.ndarray | None = None,
        temperature: float = 1.0,
    ) -> Dream:
        """Watch real rows with eyes open, then dream on with eyes closed.

        context: `obs` (N, T, ...), `prev_action` (N, T[, A]) and `is_first` (N, T), as
        `Replay.sample` gives them. actions (N, H[, A]) are followed if given; otherwise the
        actor chooses.
        temperature sharpens (< 1) or flattens (> 1) the prior; it leaves the actor alone.

        Raises:
            BadInput: not `horizon` actions, or a temperature that is not positive.
        """
        if actions is not None and np.shape(actions)[1] != horizon:
            raise BadInput(f"{horizon} actions are needed, not {np.shape(actions)[1]}.")
        if not temperature > 0:
            raise BadInput(f"The temperature is {temperature}; it must be positive.")
        keys = ("obs", "prev_action", "is_first")
        batch = {k: self._tensor(context[k]) for k in keys}
        batch["prev_action"] = encode_action(batch["prev_action"], self.act_space)
        given = None
        if actions is not None:
            given = iter(encode_action(self._tensor(actions), self.act_space).unbind(1))
        policy = (lambda _: next(given)) if given else (lambda x: self.actor(x).sample())
        with autocast(self.device):
            seen = self.world.observe(batch).state
            dream = self.world.imagine(
                policy, State(seen.h[:, -1], seen.z[:, -1]), horizon, temperature
            )
            feature = dream.feature
            parts = (
                self.world.decode(dream.state),
                self.world.reward(feature),
                self.world.continues(feature),
                self.critic.mean(self.critic(feature)),
                dream.action,
                self.world.decode(seen),
            )
        return Dream(*(each(lambda x: x.float().cpu().numpy(), part) for part in parts))

    def page(self, path: str | Path = "dream.html", env: Any = None, **settings: Any) -> int:
        """Write one HTML file in which this agent dreams on its own; returns its size in bytes.

        env: its world, as `make_env` takes it, or a `RowEnv`; not needed for those that ship with
        an agent. settings: as for `wmlib.page.content`.

        Raises:
            BadInput: the file cannot be written, or the world is not the agent's.
        """
        from wmlib.page import write

        return write(self, env, path, **settings)

    def check_spaces(self, obs_space: Space, act_space: Space) -> None:
        """Raise BadInput unless these are the spaces the agent was built for."""
        for name, mine, other in (
            ("observations", self.obs_space, obs_space),
            ("actions", self.act_space, act_space),
        ):
            if not alike(mine, other):
                mine, other = describe(mine), describe(other)
                raise BadInput(f"The agent was built for {name} {mine}, not for {other}.")

    def summary(self) -> dict[str, int]:
        """Trainable parameters by part."""
        parts = {
            "encoder": self.world.encoder,
            "rssm": self.world.rssm,
            "decoder": self.world.decoder,
            "reward": self.world.reward_head,
            "continue": self.world.continue_head,
            "actor": self.actor,
            "critic": self.critic,
        }
        return {
            k: sum(p.numel() for p in v.parameters() if p.requires_grad) for k, v in parts.items()
        }


def _keeping(losses: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled `losses` whose metrics and states outlive the next call, which reuses the memory."""

    def call(*args: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        found, metrics, state = losses(*args)
        return found, each(torch.clone, metrics), State(*(part.clone() for part in state))

    return call
