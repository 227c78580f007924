"""Plausible wrong answers to the exercises of notebook 10."""

LAWFUL = """
def lawful(returns):
    {body}
"""
FORGETS = """
def forgets(observe, rows):
    {body}
"""
SIDES = """
def sides(balance):
    q, p = (torch.softmax(torch.randn(2, 3, 4, 5), -1).requires_grad_() for _ in range(2))
    dyn, rep = balance(q, p, 0.0)
    {body}
"""
SETTLES = """
def settles(loss):
    x = torch.zeros(1, 3, requires_grad=True)
    {body}
"""
MIXED = "{k: torch.cat([v.roll(1, 0)[:, :8], v[:, 8:]], 1) for k, v in rows.items()}"

WRONG = {
    "10.1": [
        (LAWFUL.format(body="return True"), "does not notice"),
        (LAWFUL.format(body="return False"), "calls the healthy function ill"),
        (
            LAWFUL.format(
                body="z = torch.zeros(1, 4); r = torch.tensor([[0.0, 1, 0, 0]])\n"
                "    return bool(returns(r, z, z, z, 1.0, 0.0)[0, 0] == 1)"
            ),
            "a value of the state that is left",
        ),
        (LAWFUL.format(body="return 'yes'"), "Return True or False"),
    ],
    "10.2": [
        (
            FORGETS.format(
                body=f"o = {MIXED}\n"
                "    return torch.allclose(observe(rows)[:, 8], observe(o)[:, 8], atol=0.05)"
            ),
            "remembers a thousandth",
        ),
        (
            FORGETS.format(body=f"o = {MIXED}\n    return torch.equal(observe(rows), observe(o))"),
            "calls the healthy function ill",
        ),
        (
            FORGETS.format(body='return bool(rows["is_first"][:, 8].all())'),
            "never resets",
        ),
    ],
    "10.3": [
        (SIDES.format(body="return bool((dyn == rep).all())"), "does not notice"),
        (SIDES.format(body="return dyn.requires_grad and rep.requires_grad"), "sides swapped"),
    ],
    "10.4": [
        (
            SETTLES.format(
                body="loss(x, torch.ones(1, 3, dtype=torch.bool), 0.9).sum().backward()\n"
                "    return bool((x.grad > 0).all())"
            ),
            "does not notice",
        ),
        (SETTLES.format(body="return 0"), "Return True or False"),
    ],
}
