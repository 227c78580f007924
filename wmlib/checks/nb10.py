"""Checks of notebook 10: law tests, run on the healthy function and on ill ones."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.checks.exercises import exercise, require
from wmlib.config import preset
from wmlib.distributions import kl_divergence
from wmlib.envs.make import make_env
from wmlib.experiments.bugs import BUGS
from wmlib.losses import continue_loss, kl_balance, lambda_return


def judge(test: Callable, healthy: Sequence, ill: Sequence[tuple[str, tuple]]) -> None:
    """The test must say True of the healthy arguments and False of each ill one."""

    def verdict(arguments: Sequence) -> bool:
        said = test(*arguments)
        require(said is not None, "Return True or False; is a return missing?")
        if torch.is_tensor(said) and said.numel() == 1:
            said = bool(said)
        plain = isinstance(said, bool) or type(said).__name__ in ("bool", "bool_")
        require(plain, "Return True or False, and nothing else.")
        return bool(said)

    first = test(*healthy)
    if first is ...:
        require(verdict(healthy), "")  # untouched: `exercise` recognises it
    require(verdict(healthy), "Your test calls the healthy function ill; a law must hold for it.")
    for sentence, arguments in ill:
        require(not verdict(arguments), f"Your test does not notice: {sentence}.")


def shifted(reward: bool, boot: bool) -> Callable:
    """A lambda-return that takes reward, or value, of the state that is left."""

    def returns(r: Tensor, v: Tensor, *rest: Any) -> Tensor:
        def late(x: Tensor) -> Tensor:
            return torch.cat([x[:, :1], x[:, :-1]], 1)

        return lambda_return(late(r) if reward else r, late(v) if boot else v, *rest)

    return returns


@exercise("10.1")
def lawful(test: Callable) -> str:
    """Reward and value of the arrival state."""
    torch.manual_seed(0)
    ill = [
        ("a reward of the state that is left", (shifted(True, False),)),
        ("a value of the state that is left", (shifted(False, True),)),
        ("both of the state that is left", (shifted(True, True),)),
    ]
    judge(test, (lambda_return,), ill)
    return "One spike, one step: no shift hides in that."


def small_agent() -> Dreamer:
    """A tiny agent of Curtain, with weights that are not zero."""
    env = make_env("wmlib/Curtain-v0")
    sizes = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4)
    config = preset("tiny", **sizes)
    return Dreamer(env.single_observation_space, env.single_action_space, config)


@exercise("10.2")
def forgets(test: Callable) -> str:
    """Nothing of the first episode in the first state of the second."""
    from wmlib.experiments import hospital

    torch.manual_seed(0)
    agent = small_agent()
    with torch.no_grad():
        for parameter in agent.world.rssm.parameters():
            if parameter.dim() == 1:  # biases: without them a state after a reset is all zeros
                parameter.add_(0.1 * torch.randn_like(parameter))
    rows = hospital.windows(agent, 3, 12)

    @torch.no_grad()
    def observe(batch: dict[str, Tensor]) -> Tensor:
        return agent.world.observe(batch).state.h

    def ill(batch: dict[str, Tensor]) -> Tensor:
        with BUGS["no reset"](agent):
            return observe(batch)

    def a_little(batch: dict[str, Tensor]) -> Tensor:
        return observe(batch) + 1e-3 * (ill(batch) - observe(batch))

    sick = [
        ("an agent that never resets", (ill, rows)),
        ("an agent that remembers a thousandth of the last episode", (a_little, rows)),
    ]
    judge(test, (observe, rows), sick)
    return "An exact law deserves an exact test."


@exercise("10.3")
def sides(test: Callable) -> str:
    """Which loss of the pair pulls on which side."""

    def swapped(q: Tensor, p: Tensor, free: float) -> tuple[Tensor, Tensor]:
        dyn, rep = kl_balance(q, p, free)
        return rep, dyn

    def attached(q: Tensor, p: Tensor, free: float) -> tuple[Tensor, Tensor]:
        both = kl_divergence(q, p).clamp(min=free)
        return both, both

    def frozen(q: Tensor, p: Tensor, free: float) -> tuple[Tensor, Tensor]:
        dyn, rep = kl_balance(q, p, free)
        return dyn, rep.detach()

    torch.manual_seed(0)
    ill = [
        ("the two sides swapped", (swapped,)),
        ("both losses pulling on both sides", (attached,)),
        ("a rep loss that pulls on nobody", (frozen,)),
    ]
    judge(test, (kl_balance,), ill)
    return "Equal values, different gradients: only the gradient knows."


@exercise("10.4")
def settles(test: Callable) -> str:
    """The minimum of the continue loss: 0 at terminal rows, gamma elsewhere."""

    def masked(logit: Tensor, terminal: Tensor, gamma: float) -> Tensor:
        return continue_loss(logit, torch.zeros_like(terminal), gamma)

    def hard(logit: Tensor, terminal: Tensor, gamma: float) -> Tensor:
        return continue_loss(logit, terminal, 1.0)

    def soft_end(logit: Tensor, terminal: Tensor, gamma: float) -> Tensor:
        at_end = continue_loss(logit, torch.zeros_like(terminal), 1 - gamma)
        return torch.where(terminal.bool(), at_end, continue_loss(logit, terminal, gamma))

    def squared(logit: Tensor, terminal: Tensor, gamma: float) -> Tensor:
        return (torch.sigmoid(logit) - (1 - terminal.float()) * gamma).square()

    ill = [
        ("terminal rows that count as going on", (masked,)),
        ("a target of 1 in the place of gamma", (hard,)),
        ("terminal rows whose best prediction is not 0", (soft_end,)),
    ]
    judge(test, (continue_loss,), ill)
    judge(test, (squared,), ())
    return "It even accepts a squared error, whose minimum is the same."
