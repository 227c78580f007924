"""Notebook 05: the RSSM whose `observe` has everything inside the loop."""

import torch
from conftest import MINI

from equivalents import equivalent


@equivalent("wmlib.rssm.RSSM")
def simple_loop(ours, theirs):
    """Same names and shapes of parameters; same states and opinions from the same dice."""
    outputs, shapes = [], []
    action = torch.eye(3)[torch.randint(3, (4, 7))]
    embed, first = torch.randn(4, 7, 10), torch.rand(4, 7) < 0.3
    for kind in (ours, theirs):
        torch.manual_seed(1)
        model = kind(10, 3, MINI)
        names = {name: torch.tensor(p.shape) for name, p in model.named_parameters()}
        shapes.append([names[name] for name in sorted(names)])
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.2 * torch.randn_like(p))
            start = type(model.initial(4))(
                torch.randn(4, 32), torch.eye(5)[torch.zeros(4, 3).long()]
            )
            torch.manual_seed(2)
            a, b = model.observe(embed, action, first), model.observe(embed, action, first, start)
        outputs.append([*a.state, *a[1:], *b.state, *b[1:], model.probs(torch.ones(2, 15), 0.5)])
    return [*shapes[0], *outputs[0]], [*shapes[1], *outputs[1]]
