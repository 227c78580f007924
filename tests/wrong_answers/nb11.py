"""Plausible wrong answers to the exercises of notebook 11."""

UPDATES = """
def updates(steps, config):
    return {}
"""
ROWS = "(steps - config.random_steps) * config.ratio"
SIZE = "(config.batch_size * config.batch_length)"
WHY = """
def why(returns):
    caught = {}
    moves = {}
    return caught, moves
"""
CUT = """
answer = dict.fromkeys(["weights", "moments", "replay", "dice", "worlds", "memory"], True)
answer |= {{"scores": False, "seconds": False}}
answer |= {}
"""
CORE = """
class Core(nn.Module):
    def __init__(self, deter, latent, actions):
        super().__init__()
        self.rule = nn.Linear({inputs}, deter)
        {more}

    def embed_action(self, action):
        return action{flat}

    def forward(self, h, z, token):
        return {result}
"""


def core(inputs="deter + latent + actions", more="", flat="", result=""):
    result = result or "torch.tanh(self.rule(torch.cat([h, z, token], -1)))"
    return CORE.format(inputs=inputs, more=more or "pass", flat=flat, result=result)


WRONG = {
    "11.1": [
        (UPDATES.format(f"{ROWS} / {SIZE}"), "The model alone gets model_updates first"),
        (
            UPDATES.format(f"config.model_updates + steps * config.ratio / {SIZE}"),
            "Steps of random play owe nothing",
        ),
        (UPDATES.format(f"config.model_updates + {ROWS}"), "The ratio counts rows"),
        (UPDATES.format(f"config.model_updates + {ROWS} / config.batch_size"), "divide by both"),
        (UPDATES.format("steps"), "there should be about 1,675 updates"),
        (UPDATES.format(f"config.model_updates + {ROWS} / {SIZE}"), "the answer should be 0"),
    ],
    "11.2": [
        (WHY.format("(1 + returns.mean()) / 2", "0.0"), "also holds the cost of moves"),
        (WHY.format("(returns > 0.9).mean()", "0.0"), "leaves a positive return"),
        (
            WHY.format("(returns > 0).mean()", "((1 - returns) / 0.02).mean()"),
            "A missed episode starts from -1",
        ),
        (WHY.format("(returns > 0).mean()", "(1 - returns).mean()"), "moves on average"),
        ("def why(returns):\n    return returns.mean()", "should return two numbers"),
    ],
    "11.3": [
        (CUT.format("{'memory': False}"), "Resumed without 'memory', the run went on differently"),
        (CUT.format("{'moments': False, 'dice': False}"), "2 of the eight are not right yet"),
        (CUT.format("{'scores': True}"), "went on exactly as before"),
        (CUT.format("{'seconds': 'no'}"), "'seconds' should be True or False"),
        ("answer = ['weights']", "should be a dictionary"),
    ],
    "11.4": [
        (
            core("latent + actions", result="torch.tanh(self.rule(torch.cat([z, token], -1)))"),
            "does not depend on h",
        ),
        (
            core("deter + latent", result="torch.tanh(self.rule(torch.cat([h, z], -1)))"),
            "does not depend on the action",
        ),
        (
            core(
                result="self.rule(torch.cat([h, z, token], -1)).mean(0, keepdim=True).expand_as(h)"
            ),
            "Rows of the batch change each other",
        ),
        (core(result="torch.cat([h, z, token], -1)"), "should have shape"),
        (core(more="self.spare = nn.Linear(2, 2)"), "had not moved"),
        (
            core(result="torch.tanh(self.rule(torch.cat([h, z, token], -1)).detach() + h)"),
            "had not moved",
        ),
        (core(flat=".flatten(0, -2)"), "keep the axes in front"),
        (
            core(result="torch.tanh(self.rule(torch.cat([h, z, token], -1))) + torch.rand(())"),
            "chance belongs into z",
        ),
        (core() + "\nCore = Core(4, 4, 3)", "should be a class"),
    ],
}
