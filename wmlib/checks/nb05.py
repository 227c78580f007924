"""Checks of notebook 05: prior and posterior."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wmlib.checks.exercises import Wrong, array, exercise, require
from wmlib.config import Config
from wmlib.rssm import RSSM, State

B, T, E, A = 64, 6, 10, 3
WHICH = {
    "update the state while acting in the world": "q",
    "update the state in a dream": "p",
    "draw the z that the decoder gets in training": "q",
    "compute the KL loss": "both",
    "update the state of the last real row before a dream": "q",
}


def sure_model() -> RSSM:
    """A random RSSM whose prior and posterior are nearly certain, and mostly of different things.

    So the class that was drawn tells which of the two it was drawn from.
    """
    torch.manual_seed(1)
    config = Config(deter=32, hidden=16, stoch=6, classes=5, blocks=4)
    model = RSSM(E, A, config).requires_grad_(False)
    for part in model.parameters():
        part.add_(0.2 * torch.randn_like(part))  # no zeros: an all-zero state would stay one
    for network in (model.prior_net, model.posterior_net):
        network[-1].get_parameter("weight").mul_(100)
    return model


def inputs() -> tuple[Tensor, Tensor]:
    """Embeddings (B, T, E) and actions (B, T, A), zero at the first frame."""
    torch.manual_seed(2)
    action = torch.eye(A)[torch.randint(A, (B, T))]
    action[:, 0] = 0
    return torch.randn(B, T, E), action


def same(a: Tensor, b: Tensor) -> bool:
    """Tell whether they are equal up to rounding."""
    return a.shape == b.shape and bool(torch.allclose(a.float(), b.float(), atol=1e-4))


def agreement(z: Tensor, probs: Tensor) -> float:
    """Share of latents that took the likeliest class."""
    return float((z.argmax(-1) == probs.argmax(-1)).float().mean())


def pair(value: object, *sizes: tuple[int, ...]) -> State:
    """The answer as a `State` of tensors with these shapes, or `Wrong`."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise Wrong(f"A State(h, z) should be returned, not a {type(value).__name__}.")
    for part, shape, name in zip(value, sizes, "hz", strict=True):
        array(part, shape, name)
        require(torch.is_tensor(part), f"Your {name} should be a tensor.")
    z = value[1]
    one_hot = bool(((z == 0) | (z == 1)).all() and (z.sum(-1) == 1).all())
    require(
        one_hot, "Your z should be one-hot: draw it with sample_onehot, do not keep probabilities."
    )
    return State(*value)


@exercise("05.1")
def which(answer: Any) -> str:
    """Which of p, q or both, for five activities."""
    require(isinstance(answer, dict), "The answer should stay a dictionary with its five keys.")
    require(set(answer) == set(WHICH), "Keep the five keys as they are and fill in the values.")
    given = {k: str(v).strip().casefold() for k, v in answer.items()}
    odd = [v for v in given.values() if v not in ("p", "q", "both")]
    require(not odd, 'Every value should be "p", "q" or "both".')
    kl = given["compute the KL loss"]
    require(kl == "both", "A KL divergence compares two distributions, so the KL loss needs both.")
    dream = given["update the state in a dream"]
    require(dream == "p", "In a dream there is no frame, so the posterior has nothing to look at.")
    wrong = [k for k in WHICH if given[k] != WHICH[k]]
    require(not wrong, f"To {wrong[0] if wrong else ''}: there is a frame then, so look at it.")
    return "Where there is a frame, the posterior looks at it; a dream has only the prior."


@exercise("05.2")
def one_step(answer: Callable) -> str:
    """One step with eyes open."""
    model = sure_model()
    embed, action = inputs()
    h = torch.randn(B, model.deter)
    z = torch.eye(5)[torch.randint(5, (B, 6))]
    found = pair(answer(model, State(h, z), action[:, 1], embed[:, 1]), (B, 32), (B, 6, 5))
    want = model.core(h, z.flatten(-2), model.core.embed_action(action[:, 1]))
    require(
        not same(found.h, h), "Your h is still the old one; move memory on with rssm.core first."
    )
    require(
        same(found.h, want),
        "Your h should come from rssm.core, from the old h, the flat old z, the embedded action.",
    )
    seen = model.posterior(want, embed[:, 1])
    expected = model.prior(want)
    stale = model.posterior(h, embed[:, 1])
    if agreement(found.z, seen) < 0.9:
        require(
            agreement(found.z, expected) < 0.9,
            "Your z follows the prior, so the frame was not looked at; use rssm.posterior.",
        )
        require(
            agreement(found.z, stale) < 0.9,
            "The posterior was given the old h; the frame belongs to the new one.",
        )
        raise Wrong("Your z is not drawn from the posterior of the new h and the embedding.")
    return "`step` differs from it in one line: it draws from the prior."


@exercise("05.3")
def forget(answer: Callable) -> str:
    """Zero state and action where an episode begins."""
    torch.manual_seed(3)
    parts = torch.randn(B, 7), torch.randn(B, 4, 5), torch.eye(A)[torch.randint(A, (B,))]
    first = torch.arange(B) % 3 == 0
    found = answer(*(part.clone() for part in parts), first)
    three = isinstance(found, (tuple, list)) and len(found) == 3
    require(three, "Return three things: h, z and the action.")
    for after, before, name in zip(found, parts, ("h", "z", "the action"), strict=True):
        array(after, tuple(before.shape), name)
        after = torch.as_tensor(after)
        if name == "the action":
            left = torch.eye(A)[0].expand(int(first.sum()), A)
            require(
                not same(after[first], left),
                "The action became index 0, which is 'left'; no action is a vector of zeros.",
            )
            require(
                bool((after[first] == 0).all()) or not same(after, before),
                "The action of the old episode is still there where is_first is set.",
            )
        mixed = same(after[~first], torch.zeros_like(before[~first]))
        require(
            not mixed, f"Your {name} is zero where no episode begins; is the mask turned round?"
        )
        gone = bool((after[first] == 0).all())
        require(gone, f"Your {name} is not zero everywhere where is_first is set.")
        require(
            same(after[~first], before[~first]), f"Your {name} changed where no episode begins."
        )
    return "A product with 0 or 1 forgets some rows of a batch and leaves the others alone."


@exercise("05.4")
def blindfold(answer: Callable) -> str:
    """Eyes open before frame k, closed from it on."""
    model = sure_model()
    embed, action = inputs()

    def run(e: Tensor, k: int) -> State:
        torch.manual_seed(4)
        return pair(answer(model, e, action, k), (B, T, 32), (B, T, 6, 5))

    k = 3
    film = run(embed, k)
    zero = torch.zeros(B, 1, 32), torch.zeros(B, 1, 6, 5)
    h, z = (torch.cat([z0, x[:, :-1]], 1) for z0, x in zip(zero, film, strict=True))
    want = model.core(
        h.flatten(0, 1), z.flatten(-2).flatten(0, 1), model.core.embed_action(action).flatten(0, 1)
    ).unflatten(0, (B, T))
    require(
        same(film.h, want),
        "The h at frame t should come from rssm.core, from the state before and action[:, t].",
    )
    prior = model.prior(film.h)
    seen = model.posterior(film.h, embed)
    late = embed.clone()
    late[:, k:] = torch.randn(B, T - k, E)
    require(
        agreement(film.z[:, :k], seen[:, :k]) > 0.9,
        f"Before frame k (k = {k}) the eyes are open, but z does not follow the posterior there.",
    )
    other = run(late, k)
    require(
        same(film.h, other.h) and same(film.z, other.z),
        "Frames from k on were changed, and the dream changed with them: it has seen them.",
    )
    require(
        agreement(film.z[:, k:], prior[:, k:]) > 0.9,
        "From frame k on z should be drawn from the prior, and it does not follow it.",
    )
    whole, none = run(embed, T), run(embed, 0)
    require(
        agreement(whole.z, model.posterior(whole.h, embed)) > 0.9,
        "With k = T the eyes are always open, but z does not follow the posterior to the end.",
    )
    require(
        agreement(none.z, model.prior(none.h)) > 0.9,
        "With k = 0 the eyes are never open, but z does not follow the prior from the start.",
    )
    return "No later frame can leak into the dream, because it is never touched."


@exercise("05.5")
def heat(answer: Callable) -> str:
    """Probabilities at another temperature."""
    torch.manual_seed(5)
    logits = torch.randn(8, 4, 5)
    probs = logits.softmax(-1)
    for temperature in (1.0, 0.5, 3.0):
        found = torch.as_tensor(answer(probs.clone(), temperature))
        array(found, (8, 4, 5), "the result")
        require(
            same(found.sum(-1), torch.ones(8, 4)), "The probabilities do not sum to 1 any more."
        )
        if temperature == 1:
            require(same(found, probs), "At temperature 1 the probabilities should stay the same.")
        else:
            require(
                not same(found, probs),
                "Nothing changed: a common factor drops out when the sum is made 1 again.",
            )
            require(
                not same(found, (logits * temperature).softmax(-1)),
                "Hot and cold are swapped: a temperature below 1 makes the likely likelier.",
            )
            require(
                same(found, (logits / temperature).softmax(-1)),
                "It differs from softmax(logits / temperature); think of what divides a logarithm.",
            )
    coin = torch.as_tensor(answer(torch.tensor([0.8, 0.2]), 0.5))
    return f"At temperature 0.5 a coin of 0.8 is dreamt as one of {float(coin[0]):.2f}."
