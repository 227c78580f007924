"""Six bugs that let every loss fall.

Each is a context manager that gives a healthy agent the bug, in the way one wrong line would, and
takes it away again on leaving:

    with BUGS["no reset"](agent):
        ...  # train it, examine it
"""

from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from torch import Tensor

from wmlib import actor_critic, losses
from wmlib.agent import Dreamer
from wmlib.rssm import Observed, State

__all__ = ["BUGS"]

Bug = AbstractContextManager


def action_shifted(agent: Dreamer) -> Bug:
    """Row t gets the action that is chosen after it, a_t, in the place of a_(t-1)."""
    healthy = agent.world.observe

    def observe(batch: dict[str, Tensor], start: State | None = None) -> Observed:
        wrong = batch.get("action", batch["prev_action"])  # while acting there is no a_t yet
        return healthy(batch | {"prev_action": wrong}, start)

    return patch.object(agent.world, "observe", observe)


def latent_not_fed_back(agent: Dreamer) -> Bug:
    """The core never hears of z: memory is made of actions only."""
    core = agent.world.rssm.core
    healthy = core.forward

    def forward(h: Tensor, z: Tensor, token: Tensor) -> Tensor:
        return healthy(h, torch.zeros_like(z), token)

    return patch.object(core, "forward", forward)


def no_reset(agent: Dreamer) -> Bug:
    """A new episode inside a window goes on with the memory of the last one."""
    healthy = agent.world.observe

    def observe(batch: dict[str, Tensor], start: State | None = None) -> Observed:
        first = batch["is_first"].clone()
        first[:, 1:] = False
        return healthy(batch | {"is_first": first}, start)

    return patch.object(agent.world, "observe", observe)


def terminal_masked(agent: Dreamer) -> Bug:
    """The end of an episode is taken for a time limit: the continue head never sees a 0."""
    healthy = agent.world.losses

    def losses(batch: dict[str, Tensor], seen: Observed) -> dict[str, Tensor]:
        return healthy(batch | {"is_terminal": torch.zeros_like(batch["is_terminal"])}, seen)

    return patch.object(agent.world, "losses", losses)


def sides_swapped(agent: Dreamer) -> Bug:
    """The two sides of the KL change places: the posterior runs after the prior."""
    config = agent.config
    swapped = config.replace(dyn_scale=config.rep_scale, rep_scale=config.dyn_scale)
    return patch.object(agent.world, "config", swapped)


def return_off_by_one(agent: Dreamer) -> Bug:
    """Returns take reward and value of the state that is left, not of the one that is reached."""

    def lambda_return(
        reward: Tensor, boot: Tensor, term: Tensor, last: Tensor, gamma: float, lam: float
    ) -> Tensor:
        reward, boot = (torch.cat([x[:, :1], x[:, :-1]], 1) for x in (reward, boot))
        return losses.lambda_return(reward, boot, term, last, gamma, lam)

    return patch.object(actor_critic, "lambda_return", lambda_return)


BUGS = {
    "action shifted": action_shifted,
    "latent not fed back": latent_not_fed_back,
    "no reset": no_reset,
    "terminal masked": terminal_masked,
    "KL sides swapped": sides_swapped,
    "return off by one": return_off_by_one,
}
