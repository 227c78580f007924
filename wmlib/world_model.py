"""The world model: encoder + RSSM + decoder + reward + continue, its loss and its dreams.

Shapes: B batch, T time, N starts, H horizon, A actions, F feature size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wmlib.config import Config
from wmlib.distributions import symexp_bins, twohot_loss, twohot_mean
from wmlib.encoder import make_decoder, make_encoder
from wmlib.losses import continue_loss, kl_balance
from wmlib.nets import Head
from wmlib.rssm import RSSM, Observed, State
from wmlib.spaces import Space, action_size

__all__ = ["Rollout", "WorldModel"]


@dataclass
class Rollout:
    """A dream: H imagined steps from each of N starts, as features and actions.

    Index 0 is the start itself, so there are H + 1 states and H actions between them.
    """

    state: State  # h (N, H+1, D), z (N, H+1, S, K)
    feature: Tensor  # [h; flat z] (N, H+1, F), the memory that `state` is a view of
    action: Tensor  # (N, H, A): action[:, t] leads from state t to state t + 1


class WorldModel(nn.Module):
    """What the agent believes about its world."""

    bins: Tensor

    def __init__(self, obs_space: Space, act_space: Space, config: Config):
        super().__init__()
        feature = config.deter + config.stoch * config.classes
        self.config = config
        self.encoder = make_encoder(obs_space, config)
        self.rssm = RSSM(self.encoder.outputs, action_size(act_space), config)
        self.decoder = make_decoder(obs_space, config)
        self.reward_head = Head(feature, config.units, 1, config.bins, outscale=0.0)
        self.continue_head = Head(feature, config.units, 1, 1)
        self.register_buffer("bins", symexp_bins(config.bins), persistent=False)

    def observe(self, batch: dict[str, Tensor], start: State | None = None) -> Observed:
        """Follow real rows. obs (B, T, ...), prev_action (B, T, A), is_first (B, T)."""
        embed = self.encoder(batch["obs"])
        return self.rssm.observe(embed, batch["prev_action"], batch["is_first"], start)

    def decode(self, state: State) -> Tensor:
        """Draw the observation a state stands for. -> (..., *observation) in its own units."""
        return self.decoder.mean(self.decoder(state.h, state.z.flatten(-2)))

    def reward(self, feature: Tensor) -> Tensor:
        """Expected reward that arrives with this state. (..., F) -> (...)."""
        return twohot_mean(self.reward_head(feature), self.bins)

    def continues(self, feature: Tensor) -> Tensor:
        """Probability that the episode goes on, times the discount. (..., F) -> (...)."""
        return torch.sigmoid(self.continue_head(feature).float()).squeeze(-1)

    def losses(self, batch: dict[str, Tensor], seen: Observed) -> dict[str, Tensor]:
        """The five world-model losses, each (B, T), from rows and what `observe` made of them."""
        config = self.config
        feature = seen.state.feature
        drawn = self.decoder(seen.state.h, seen.state.z.flatten(-2))
        dyn, rep = kl_balance(seen.posterior, seen.prior, config.free_nats)
        cont = self.continue_head(feature).squeeze(-1)
        return {
            "rec": self.decoder.loss(drawn, batch["obs"]),
            "rew": twohot_loss(self.reward_head(feature), batch["reward"], self.bins),
            "con": continue_loss(cont, batch["is_terminal"], config.gamma),
            "dyn": dyn,
            "rep": rep,
        }

    def scales(self) -> dict[str, float]:
        """Weight of each loss in the total."""
        config = self.config
        kl = {"dyn": config.dyn_scale, "rep": config.rep_scale}
        return {"rec": 1.0, "rew": 1.0, "con": 1.0, **kl}

    @torch.no_grad()
    def imagine(
        self,
        policy: Callable[[Tensor], Tensor],
        start: State,
        horizon: int,
        temperature: float = 1.0,
    ) -> Rollout:
        """Dream `horizon` steps from N starts. `policy` maps features (N, F) to actions (N, A).

        No gradient is kept: REINFORCE needs the dream only as data.
        """
        state = start
        features = [start.feature]
        actions = []
        for _ in range(horizon):
            actions.append(policy(features[-1]))
            state = self.rssm.step(state, actions[-1], temperature)
            features.append(state.feature)
        feature = torch.stack(features, 1)
        h, z = feature.split([start.h.shape[-1], feature.shape[-1] - start.h.shape[-1]], -1)
        state = State(h, z.unflatten(-1, start.z.shape[-2:]))
        return Rollout(state, feature, torch.stack(actions, 1))
