"""A reader's change must work: other cores and other latents, from collecting to resuming.

What notebook 11 shows is tested here through wmlib's public face only: build an agent, replace a
part, give it an optimiser that knows the new parameters, train, dream, save, resume.
"""

import numpy as np
import pytest
import torch
from torch import nn

import wmlib

CURTAIN = "wmlib/Curtain-v0"
QUICK = {
    "deter": 16,
    "hidden": 8,
    "units": 8,
    "depth": 8,
    "num_envs": 4,
    "batch_size": 4,
    "batch_length": 8,
    "random_steps": 64,
    "model_updates": 3,
    "warmup": 0,
    "horizon": 3,
}


class PlainGRU(nn.Module):
    """PyTorch's GRU cell behind the two methods of a core."""

    def __init__(self, deter, latent, actions):
        super().__init__()
        self.cell = nn.GRUCell(latent + actions, deter)

    def embed_action(self, action):
        return action

    def forward(self, h, z, token):
        return self.cell(torch.cat([z, token], -1), h)


class Ungated(nn.Module):
    """The oldest of all, with an action token of its own width."""

    def __init__(self, deter, latent, actions):
        super().__init__()
        self.token = nn.Linear(actions, 5)
        self.rule = nn.Linear(deter + latent + 5, deter)

    def embed_action(self, action):
        return self.token(action)

    def forward(self, h, z, token):
        return torch.tanh(self.rule(torch.cat([h, z, token], -1)))


def build(core=None, world=CURTAIN, seed=0, **changes):
    """An agent, its worlds, and the core that was put in."""
    config = wmlib.preset("tiny", **QUICK | changes)
    wmlib.seed_everything(seed)
    env = wmlib.make_env(world, config.num_envs, seed)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    if core:
        actions = agent.actor.out.out_features
        agent.world.rssm.core = core(config.deter, config.stoch * config.classes, actions)
        agent.optimizer = agent.build_optimizer()
    return agent, env


def weights(agent):
    return {name: value.clone() for name, value in agent.state_dict().items()}


CHANGES = [
    (PlainGRU, {}),
    (Ungated, {}),
    (None, {"stoch": 16, "classes": 2}),
    (None, {"stoch": 1, "classes": 32}),
    (PlainGRU, {"stoch": 16, "classes": 2}),
    (PlainGRU, {"stoch": 6, "classes": 3, "stored_latents": False}),
    (Ungated, {"deter": 24, "unimix": 0.0}),
]


@pytest.mark.parametrize("world", [CURTAIN, "CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize(("core", "changes"), CHANGES)
def test_the_changed_agent_trains_acts_and_dreams(core, changes, world):
    agent, env = build(core, world, **changes)
    before = weights(agent)
    result = wmlib.train(agent, env, steps=120, progress=False, eval_episodes=2)
    assert result.updates > 10 and np.isfinite(result.eval_return_mean)
    parts = (
        "world.encoder",
        "world.rssm.core",
        "world.rssm.prior",
        "world.rssm.posterior",
        "world.decoder",
        "actor",
        "critic.fast",
        "critic.slow",
    )
    moved = [k for k, v in agent.state_dict().items() if not torch.equal(v, before[k])]
    for part in parts:
        assert any(name.startswith(part) for name in moved), part
    for name, _ in agent.world.rssm.core.named_parameters(prefix="world.rssm.core"):
        assert name in moved, name
    rows = wmlib.play(agent, wmlib.make_env(world, num_envs=3), 6)
    context = {k: rows[k] for k in ("obs", "prev_action", "is_first")}
    dream = agent.imagine(context, horizon=5)
    assert dream.observation.shape == (3, 6, *env.single_observation_space.shape)
    assert np.isfinite(dream.observation).all() and np.isfinite(dream.value).all()


@pytest.mark.parametrize(("core", "changes"), [CHANGES[0], CHANGES[4]])
def test_it_resumes_exactly(core, changes, tmp_path):
    straight, env = build(core, **changes)
    wmlib.train(straight, env, 160, tmp_path / "straight", progress=False, eval_episodes=2)
    halves, env = build(core, **changes)
    wmlib.train(halves, env, 100, tmp_path / "halves", progress=False, eval_episodes=2)
    again, _ = build(core, seed=7, **changes)  # other first weights: all come from the file
    env = wmlib.make_env(CURTAIN, 4, 0)
    options = {"resume": True, "progress": False, "eval_episodes": 2}
    wmlib.train(again, env, 160, tmp_path / "halves", **options)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in straight.state_dict().items())
    assert not all(torch.equal(v, again.state_dict()[k]) for k, v in halves.state_dict().items())


def test_a_standard_agent_does_not_pretend_to_fit(tmp_path):
    agent, env = build(PlainGRU)
    wmlib.train(agent, env, 100, tmp_path / "run", progress=False, eval_episodes=2)
    with pytest.raises(wmlib.BadInput, match="another architecture"):
        wmlib.load_agent(tmp_path / "run")


def test_the_changed_agent_is_loaded_into_one_built_the_same_way(tmp_path):
    agent, env = build(PlainGRU)
    wmlib.train(agent, env, 100, tmp_path / "run", progress=False, eval_episodes=2)
    blank = build(PlainGRU, seed=7)[0]
    wmlib.export_weights(tmp_path / "run", tmp_path / "a.safetensors", blank)
    obs = env.reset(seed=0).obs
    wanted = wmlib.load_policy(tmp_path / "run", seed=0, agent=agent)
    for source in (tmp_path / "run", tmp_path / "a.safetensors"):
        other = build(PlainGRU, seed=7)[0]
        policy = wmlib.load_policy(source, seed=0, agent=other)
        assert policy.agent is other
        for _ in range(4):
            np.testing.assert_array_equal(policy(obs), wanted(obs))
        wanted = wmlib.load_policy(tmp_path / "run", seed=0, agent=agent)
        with pytest.raises(wmlib.BadInput, match="another architecture"):
            wmlib.load_agent(source, agent=build(Ungated)[0])


def test_the_changed_model_learns():
    """Reconstruction of random play gets far better than that of a model that knows the mean."""
    agent, env = build(
        PlainGRU,
        stoch=16,
        classes=2,
        deter=64,
        hidden=32,
        units=32,
        num_envs=16,
        batch_size=16,
        batch_length=8,
        model_updates=250,
        random_steps=512,
        warmup=20,
    )
    trainer, lines = wmlib.Trainer(agent, env), []
    while not trainer.ready:
        trainer.collect()
    for _ in range(250):
        trainer.learn(behaviour=False)
        lines.append(trainer.recent[-1]["rec"].item())
    assert np.mean(lines[-20:]) < 0.25 * np.mean(lines[20:40])
