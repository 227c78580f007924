"""Wrong answers to the exercises of notebook 04."""

CAPACITY = "def capacity(stoch, classes):\n    return "
HEAD = "def face_at(probs, u):\n    "
PRETEND = "def pretend(onehot, probs):\n    return "
LOSS = "def reinforce_loss(cost, logp):\n    "
LARGEST = "def largest_kl(classes, mix=0.01):\n    "

WRONG = {
    "04.1": [
        ("def capacity(stoch, classes):\n    return stoch * math.log2(classes)", "That is in bits"),
        (CAPACITY + "classes * math.log(stoch)", "to the power"),
        (CAPACITY + "math.log(stoch * classes)", "to the power"),
        (CAPACITY + "math.log(float(classes) ** stoch)", "OverflowError"),
    ],
    "04.2": [
        (HEAD + "return probs.argmax(-1)", "as often as probs says"),
        (HEAD + "return (probs.cumsum(-1) > u[..., None]).sum(-1)", "leave that range"),
        (HEAD + "return torch.multinomial(probs, 1)[..., 0]", "Evenly spread u should"),
        (
            HEAD + "return 2 - (probs.flip(-1).cumsum(-1)[..., :-1] < u[..., None]).sum(-1)",
            "go 0, 1, 2",
        ),
        (
            HEAD + "return F.one_hot((probs.cumsum(-1)[..., :-1] < u[..., None]).sum(-1), 3)",
            "should have shape (1000,)",
        ),
        (
            HEAD + "return torch.searchsorted(probs.flatten(0, -2)[0].cumsum(-1), u)",
            "another die's piece",
        ),
    ],
    "04.3": [
        (PRETEND + "onehot", "no gradient flows"),
        (PRETEND + "probs", "The value is not the throw"),
        (PRETEND + "onehot + probs - onehot.detach()", "The value is not the throw"),
        (PRETEND + "onehot + 2 * (probs - probs.detach())", "not the one that probs itself"),
        (PRETEND + "onehot * probs / probs.detach()", "not the one that probs itself"),
    ],
    "04.4": [
        (LOSS + "return (cost * logp).mean()", "as noisy as without"),
        (LOSS + "return ((cost - cost.mean()) * logp).mean()", "contain the throw's own cost"),
        (
            LOSS + "return -((cost - (cost.sum() - cost) / (len(cost) - 1)) * logp).mean()",
            "points the wrong way",
        ),
        (LOSS + "return (cost - cost.mean()).mean()", "logp must appear"),
        (LOSS + "return ((cost - (cost.sum() - cost)) * logp).sum()", "a sum for a mean"),
    ],
    "04.5": [
        (LARGEST + "return -math.log(mix / classes)", "q has unimix too"),
        (
            LARGEST + "a = 1 - mix + mix / classes\n    return a * math.log(a * classes / mix)",
            "One face is missing",
        ),
        (LARGEST + "return (1 - mix) * math.log((1 - mix) * classes / mix)", "not 1 - mix"),
        (LARGEST + "return 5.9241", "sure of different faces"),
    ],
}
