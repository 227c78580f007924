"""Plausible wrong answers to the exercises of notebook 05."""

WHICH = """
answer = {{
    "update the state while acting in the world": "{}",
    "update the state in a dream": "{}",
    "draw the z that the decoder gets in training": "{}",
    "compute the KL loss": "{}",
    "update the state of the last real row before a dream": "{}",
}}
"""
LOOK = """
def look(rssm, state, action, embed):
    h = {h}
    z = {z}
    return State(h, z)
"""
H = "rssm.core(state.h, state.z.flatten(-2), rssm.core.embed_action(action))"
FORGET = """
def forget(h, z, action, is_first):
    keep = {keep}
    return h * keep, z * keep.unsqueeze(-1), {action}
"""
KEEP = "1 - is_first.float().unsqueeze(-1)"
BLINDFOLD = """
def blindfold(rssm, embed, action, k):
    state, hs, zs = rssm.initial(len(embed)), [], []
    for t in range(embed.shape[1]):
        h = rssm.core(state.h, state.z.flatten(-2), rssm.core.embed_action({action}))
        probs = {probs}
        state = State(h, {draw})
        hs.append(state.h), zs.append(state.z)
    return State(torch.stack(hs, 1), torch.stack(zs, 1))
"""
BLIND = {
    "action": "action[:, t]",
    "probs": "rssm.posterior(h, embed[:, t]) if t < k else rssm.prior(h)",
    "draw": "sample_onehot(probs)",
}


def blind(**changes: str) -> str:
    return BLINDFOLD.format(**{**BLIND, **changes})


WRONG = {
    "05.1": [
        (WHICH.format("p", "p", "q", "both", "q"), "there is a frame then"),
        (WHICH.format("q", "q", "q", "both", "q"), "In a dream there is no frame"),
        (WHICH.format("q", "p", "q", "p", "q"), "compares two distributions"),
        (WHICH.format("q", "p", "prior", "both", "q"), 'should be "p", "q" or "both"'),
        ("answer = 'q'", "stay a dictionary"),
    ],
    "05.2": [
        (LOOK.format(h=H, z="sample_onehot(rssm.prior(h))"), "the frame was not looked at"),
        (
            LOOK.format(h=H, z="sample_onehot(rssm.posterior(state.h, embed))"),
            "was given the old h",
        ),
        (LOOK.format(h=H, z="rssm.posterior(h, embed)"), "do not keep probabilities"),
        (
            LOOK.format(h="state.h", z="sample_onehot(rssm.posterior(h, embed))"),
            "is still the old one",
        ),
        (
            LOOK.format(
                h=H.replace("(action)", "(0 * action)"),
                z="sample_onehot(rssm.posterior(h, embed))",
            ),
            "should come from rssm.core, from the old",
        ),
        ("def look(rssm, state, action, embed):\n    return state.h", "A State(h, z) should be"),
    ],
    "05.3": [
        (FORGET.format(keep=KEEP, action="action"), "the old episode is still there"),
        (
            FORGET.format(
                keep=KEEP,
                action="torch.where(is_first[:, None], torch.eye(3)[0], action)",
            ),
            "which is 'left'",
        ),
        (
            FORGET.format(keep="is_first.float().unsqueeze(-1)", action="action * keep"),
            "is the mask turned round",
        ),
        (
            "def forget(h, z, action, is_first):\n    return 0 * h, 0 * z, 0 * action",
            "where no episode begins",
        ),
        ("def forget(h, z, action, is_first):\n    return h", "Return three things"),
    ],
    "05.4": [
        (blind(probs="rssm.posterior(h, embed[:, t]) if t <= k else rssm.prior(h)"), "it has seen"),
        (blind(probs="rssm.prior(h)"), "does not follow the posterior there"),
        (blind(probs="rssm.posterior(h, embed[:, t])"), "it has seen them"),
        (
            blind(probs="rssm.posterior(h, embed[:, min(t, k - 1)])"),
            "should be drawn from the prior",
        ),
        (blind(probs="rssm.posterior(h, embed[:, t] * (t < k))"), "should be drawn from the prior"),
        (blind(action="action[:, t - 1]"), "at frame t should come from"),
        (blind(draw="probs"), "do not keep probabilities"),
    ],
    "05.5": [
        ("def heat(probs, temperature):\n    return probs / temperature", "do not sum to 1"),
        (
            "def heat(probs, temperature):\n    p = probs / temperature\n"
            "    return p / p.sum(-1, keepdim=True)",
            "a common factor drops out",
        ),
        (
            "def heat(probs, temperature):\n    return (probs / temperature).softmax(-1)",
            "should stay the same",
        ),
        (
            "def heat(probs, temperature):\n    p = probs**temperature\n"
            "    return p / p.sum(-1, keepdim=True)",
            "Hot and cold are swapped",
        ),
    ],
}
