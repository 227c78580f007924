"""The recurrent state-space model: deterministic h, stochastic z, prior p(z|h), posterior q(z|h,e).

Shapes: B batch, T time, D deterministic size, S latents of K classes, U hidden, E encoder output,
A actions. The world model at step t consumes the action a_{t-1}.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmlib.config import Config
from wmlib.distributions import sample_onehot, straight_through, unimix_probs
from wmlib.nets import NLN, BlockLinear, NormSiLU, linear

__all__ = ["RSSM", "Observed", "RecurrentCore", "State"]


class State(NamedTuple):
    """Model state: what the agent knows. Any batch axes in front."""

    h: Tensor  # (..., D)
    z: Tensor  # (..., S, K), one-hot

    @property
    def feature(self) -> Tensor:
        """[h; flat z], the input of every head. (..., D + S*K)."""
        return torch.cat([self.h, self.z.flatten(-2)], -1)

    def detach(self) -> "State":
        """Cut the gradient."""
        return State(self.h.detach(), self.z.detach())


class Observed(NamedTuple):
    """What `RSSM.observe` returns for B windows of T steps."""

    state: State  # h (B, T, D), z (B, T, S, K): posterior samples
    posterior: Tensor  # probabilities (B, T, S, K)
    prior: Tensor  # probabilities (B, T, S, K)


class RecurrentCore(nn.Module):
    """Block GRU: h_t from h_{t-1}, z_{t-1} and a_{t-1}.

    Each of the g blocks owns D/g units of h and sees all of x = [from_h; from_z; from_a], through
    which the blocks talk to each other.
    """

    def __init__(self, deter: int, stoch: int, actions: int, hidden: int, blocks: int):
        super().__init__()
        self.blocks = blocks
        self.from_h = NLN(deter, hidden)
        self.from_z = NLN(stoch, hidden)
        self.from_a = NLN(actions, hidden)
        self.mix = BlockLinear(deter + blocks * 3 * hidden, deter, blocks)
        self.norm = NormSiLU(deter)
        self.gates = BlockLinear(deter, 3 * deter, blocks)

    def embed_action(self, action: Tensor) -> Tensor:
        """Action token: it needs no state, so it is computed for all steps at once. -> (..., U)."""
        return self.from_a(action / action.abs().clamp(min=1).detach())

    def forward(self, h: Tensor, z: Tensor, token: Tensor) -> Tensor:
        """One step. h (B, D), flat z (B, S*K), action token (B, U) -> next h (B, D)."""
        x = torch.cat([self.from_h(h), self.from_z(z), token], -1)  # (B, 3U)
        y = self.norm(self.mix(h.unflatten(-1, (self.blocks, -1)), x).flatten(-2))  # (B, D)
        gates = self.gates(y.unflatten(-1, (self.blocks, -1)))  # (B, g, 3D/g)
        gates = gates.unflatten(-1, (3, -1)).movedim(-2, 0).flatten(-2)  # (3, B, D)
        reset, candidate, update = gates.unbind(0)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1)  # -1: remember by default
        return torch.lerp(h, candidate, update)


class RSSM(nn.Module):
    """Recurrent state-space model with categorical latents."""

    def __init__(self, embed: int, actions: int, config: Config):
        super().__init__()
        self.deter, self.stoch, self.classes = config.deter, config.stoch, config.classes
        self.unimix = config.unimix
        flat = config.stoch * config.classes
        hidden = config.hidden
        self.core = RecurrentCore(config.deter, flat, actions, hidden, config.blocks)
        self.prior_net = nn.Sequential(
            NLN(config.deter, hidden), NLN(hidden, hidden), linear(hidden, flat)
        )
        self.posterior_net: Any = nn.Sequential(  # `observe` uses its two layers one by one
            NLN(config.deter + embed, hidden), linear(hidden, flat)
        )

    def initial(self, batch: int, device: torch.device | None = None) -> State:
        """All-zero state: nothing seen yet."""
        h = torch.zeros(batch, self.deter, device=device)
        return State(h, torch.zeros(batch, self.stoch, self.classes, device=device))

    def probs(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """(..., S*K) logits -> (..., S, K) probabilities with unimix."""
        logits = logits.unflatten(-1, (self.stoch, self.classes))
        return unimix_probs(logits / temperature, self.unimix)

    def prior(self, h: Tensor, temperature: float = 1.0) -> Tensor:
        """Transition model p(z_t | h_t): what to expect. (..., D) -> (..., S, K)."""
        return self.probs(self.prior_net(h), temperature)

    def posterior(self, h: Tensor, embed: Tensor) -> Tensor:
        """Inference model q(z_t | h_t, e_t): what was seen. (..., D), (..., E) -> (..., S, K)."""
        return self.probs(self.posterior_net(torch.cat([h, embed], -1)))

    def observe(
        self, embed: Tensor, action: Tensor, is_first: Tensor, start: State | None = None
    ) -> Observed:
        """Follow real rows with eyes open.

        embed (B, T, E), previous action a_{t-1} (B, T, A), is_first (B, T) -> `Observed`.
        Where is_first, the past is forgotten: h, z and the action become zero.
        """
        h, z = start or self.initial(len(embed), embed.device)
        keep = 1 - is_first.float().unsqueeze(-1)  # (B, T, 1)
        tokens = self.core.embed_action(action * keep)  # (B, T, U), outside the loop
        first, out = self.posterior_net
        weight_h, weight_e = first.linear.weight.split([self.deter, embed.shape[-1]], 1)
        seen = F.linear(embed, weight_e, first.linear.bias)  # (B, T, U), outside the loop
        hs, zs, posts = [], [], []
        for keep_t, token, seen_t in zip(
            keep.unbind(1), tokens.unbind(1), seen.unbind(1), strict=True
        ):
            h = self.core(h * keep_t, z.flatten(-2) * keep_t, token)
            hidden = first.norm(F.linear(h, weight_h) + seen_t)
            post = self.probs(out(hidden))
            z = straight_through(sample_onehot(post), post)
            hs.append(h), zs.append(z), posts.append(post)  # pyright: ignore[reportUnusedExpression]
        h = torch.stack(hs, 1)
        state = State(h, torch.stack(zs, 1))
        return Observed(state, torch.stack(posts, 1), self.prior(h))

    def step(self, state: State, action: Tensor, temperature: float = 1.0) -> State:
        """One step with eyes closed: z is drawn from the prior. action (B, A)."""
        h = self.core(state.h, state.z.flatten(-2), self.core.embed_action(action))
        prior = self.prior(h, temperature)
        z = sample_onehot(prior)
        return State(h, straight_through(z, prior) if torch.is_grad_enabled() else z)
