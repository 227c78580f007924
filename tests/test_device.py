"""The agent on a GPU, as far as a machine without one can tell.

The stand-in is torch's meta device. Its tensors hold no numbers: whatever needs one fails, and so
does an operation that mixes devices. What a GPU would allow but wait for is counted.
"""

import collections
import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import BUTTONS, IMAGE, MINI, STICKS, SYMBOL, VECTOR, make_sample
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import wmlib.losses
from wmlib.__main__ import main
from wmlib.agent import Dreamer, _keeping
from wmlib.checkpoint import load_tree, load_weights, save_tree
from wmlib.envs.make import make_env
from wmlib.rssm import State
from wmlib.spaces import each
from wmlib.trainer import Trainer

SYMBOLS = gym.spaces.MultiDiscrete([3, 5, 2])
SWITCHES = gym.spaces.MultiDiscrete([2, 2, 2, 2])
PARTS = gym.spaces.Dict({"speed": VECTOR, "seen": IMAGE, "sign": SYMBOL, "signs": SYMBOLS})
WORLDS = {
    "vector, buttons": (VECTOR, BUTTONS, {}),
    "vector, sticks": (VECTOR, STICKS, {}),
    "vector, switches": (VECTOR, SWITCHES, {}),
    "pooled image": (IMAGE, BUTTONS, {"coder": "pooled", "likelihood": "mse"}),
    "strided image": (IMAGE, STICKS, {"coder": "strided", "likelihood": "bernoulli"}),
    "symbol": (SYMBOL, SYMBOLS, {}),
    "symbols": (SYMBOLS, BUTTONS, {}),
    "parts": (PARTS, STICKS, {"imagine_last": 3}),
}
every_world = pytest.mark.parametrize("world", WORLDS)
WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}


class Log(TorchDispatchMode):
    """Notes what makes the host wait for the device, and what is born on the host."""

    def __init__(self):
        super().__init__()
        self.waits, self.born = collections.Counter(), collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given, made = tensors((args, kwargs)), tensors(out)
        name = func.overloadpacket.__name__
        masked = name.startswith(("index", "_index")) and any(
            x.dtype == torch.bool for x in tensors(args[1:2])
        )
        copied = len({x.device.type for x in (*given, *made)}) > 1
        self.waits[name] += name in WAITING or masked or copied
        self.born[name] += any(x.device.type == "cpu" for x in made)
        return out


def tensors(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def build(world, device="meta", **changes):
    """An agent on a device, and the rows of its world there."""
    obs, act, more = WORLDS[world]
    agent = Dreamer(obs, act, MINI.replace(**more, **changes)).to(device)
    if device == "meta":  # unlike a GPU it takes new parameters instead of moving their numbers
        agent.optimizer = agent.build_optimizer()
    sample = make_sample(obs, act)
    batch, _ = agent.tensors(sample)
    return agent, sample, batch


def start_of(agent, count=4):
    """Stored states as they come out of replay."""
    return State(*(part + 0 for part in agent.initial(count).state))


@pytest.fixture
def blank(monkeypatch):
    """Tensors without numbers become arrays of zeros."""
    monkeypatch.setattr(Tensor, "cpu", lambda x: x)
    monkeypatch.setattr(Tensor, "numpy", lambda x: np.zeros(x.shape, np.float32))


# ---------------------------------------------------------------- devices


def test_every_tensor_that_an_agent_holds_moves_with_it():
    for world in WORLDS:
        agent, _, _ = build(world)
        held = [x for module in agent.modules() for x in tensors(dict(vars(module)))]
        assert held and all(x.is_meta for x in held), world


@every_world
@pytest.mark.parametrize("stored", [False, True], ids=["from zeros", "from stored states"])
def test_no_tensor_of_an_update_is_born_on_the_host(world, stored):
    agent, _, batch = build(world)
    assert all(x.is_meta for x in tensors(batch))
    start = start_of(agent) if stored else None
    with Log() as log:
        for behaviour in (False, True):
            metrics, state = agent.update(batch, start, behaviour)
    assert not +log.born and not +log.waits
    moments = agent.optimizer.state_dict()["state"]
    assert all(x.is_meta for x in tensors((metrics, [*state], moments)))


@every_world
def test_acting_and_dreaming_stay_on_the_device(world, blank):
    agent, sample, _ = build(world)
    obs = each(lambda x: x[:, 0], sample["obs"])
    memory = agent.initial(4)
    for mode in (False, True):
        action, memory = agent.act(obs, np.ones(4, bool), memory, mode)
        assert all(x.is_meta for x in (*memory.state, memory.action))
        memory = agent.taken(memory, sample["action"][:, 0])
        assert memory.action.is_meta
    dream = agent.imagine(sample, 3)
    assert dream.reward.shape == (4, 4) and action.shape == sample["action"][:, 0].shape


def test_a_run_saved_from_the_device_is_resumed_on_it(tmp_path, monkeypatch):
    env = make_env("CartPole-v1", 4)
    config = MINI.replace(num_envs=4, random_steps=0, batch_size=2, batch_length=4, ratio=8)
    spaces = env.single_observation_space, env.single_action_space
    trainer = Trainer(Dreamer(*spaces, config), env)
    while trainer.updates < 2:
        trainer.tick()
    save_tree(tmp_path / "host", trainer.state_dict())
    agent = Dreamer(*spaces, config).to("meta")
    agent.optimizer = agent.build_optimizer()
    other = Trainer(agent, env)
    with pytest.warns(UserWarning, match="no-op"):  # meta tensors take no numbers
        load_weights(agent, trainer.agent.state_dict())
    other.load_state_dict(load_tree(tmp_path / "host")[0])
    held = tensors((agent.optimizer.state_dict()["state"], [*other.memory.state]))
    held += [other.memory.action, *agent.parameters(), *agent.buffers()]
    assert all(x.is_meta for x in held)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "cpu", lambda x: torch.zeros(x.shape, dtype=x.dtype))
        save_tree(tmp_path / "device", other.state_dict() | {"agent": agent.state_dict()})
    kept, _ = load_tree(tmp_path / "device")
    assert kept["agent"].keys() == agent.state_dict().keys() and kept["optimizer"]


def test_a_planted_tensor_of_the_host_is_found(monkeypatch):
    agent, _, batch = build("vector, buttons")
    right = wmlib.losses.continue_loss

    def planted(logit, is_terminal, gamma):
        return right(logit, is_terminal, gamma) * torch.tensor(1.0)  # a GPU takes it, and waits

    monkeypatch.setattr("wmlib.world_model.continue_loss", planted)
    with Log() as log:
        agent.update(batch)
    assert +log.born and +log.waits


# ---------------------------------------------------------------- waiting


def one_hot(value, count):
    """As on a GPU: on a CPU torch looks for a class that is out of range."""
    return (value.unsqueeze(-1) == torch.arange(count)).long()


@every_world
@pytest.mark.parametrize("behaviour", [False, True], ids=["model", "all"])
def test_an_update_waits_for_the_device_once(world, behaviour, monkeypatch):
    agent, _, batch = build(world, "cpu")
    monkeypatch.setattr(torch.nn.functional, "one_hot", one_hot)
    with Log() as log:
        for _ in range(2):
            metrics, _ = agent.update(batch, start_of(agent), behaviour)
    assert +log.waits == {"_local_scalar_dense": 2}
    assert all(isinstance(value, Tensor) for value in metrics.values())


def test_a_planted_wait_is_counted(monkeypatch):
    agent, _, batch = build("vector, buttons", "cpu")
    right = wmlib.losses.continue_loss

    def planted(logit, is_terminal, gamma):
        assert is_terminal[is_terminal].all()
        return right(logit, is_terminal, gamma)

    monkeypatch.setattr("wmlib.world_model.continue_loss", planted)
    with Log() as log:
        agent.update(batch)
    assert log.waits["index"] == 1 and log.waits["_local_scalar_dense"] == 2


# ---------------------------------------------------------------- compiling


@pytest.mark.parametrize("world", ["vector, buttons", "strided image"])
@pytest.mark.parametrize("behaviour", [False, True], ids=["model", "all"])
@pytest.mark.parametrize("stored", [False, True], ids=["from zeros", "from stored states"])
def test_the_losses_are_one_graph_without_a_break(world, behaviour, stored):
    torch._dynamo.reset()
    agent, _, batch = build(world, "cpu", horizon=2)
    batch = each(lambda x: x[:, :3], batch)
    start = start_of(agent) if stored else None
    compiled = torch.compile(agent.losses, fullgraph=True, backend="eager")
    found = []
    for call in (agent.losses, compiled):
        torch.manual_seed(0)
        agent.return_scale.load_state_dict({"low": torch.zeros(()), "high": torch.zeros(())})
        found.append(tensors([*call(batch, start, behaviour)]))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.fixture
def eager(monkeypatch):
    """Compile to nothing but the same operations; returns the settings that were asked for."""
    torch._dynamo.reset()
    asked, right = [], torch.compile

    def fake(function, **settings):
        asked.append(settings)
        return right(function, backend="eager", dynamic=settings.get("dynamic"))

    monkeypatch.setattr(torch, "compile", fake)
    return asked


def test_compiled_parts_learn_the_same_and_keep_names_and_copies(eager):
    agents = []
    for compiled in (False, True):
        torch.manual_seed(0)
        agent, sample, batch = build("vector, sticks", "cpu", horizon=2)
        if compiled:
            assert agent.compile_parts() is agent and len(eager) == 3
        for _ in range(2):
            agent.update(batch)
        agent.act(sample["obs"][:, 0], np.ones(4, bool), agent.initial(4))
        agents.append(agent.state_dict())
    other = copy.deepcopy(agent)  # acts with its own weights, not with those it was copied from
    assert other.world.rssm.step.__self__ is other.world.rssm
    plain, other = agents
    assert plain.keys() == other.keys()
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_on_cuda_the_whole_of_the_losses_is_compiled_and_their_numbers_are_kept(eager, monkeypatch):
    agent, _, _ = build("vector, buttons", "cpu")
    monkeypatch.setattr(Dreamer, "device", torch.device("cuda"))
    monkeypatch.setattr("wmlib.agent.can_compile", lambda _: True)
    agent.compile_parts()
    assert [settings["mode"] for settings in eager] == ["reduce-overhead"]
    assert copy.deepcopy(agent).losses.__self__ is not agent
    reused = torch.zeros(3)  # memory of a CUDA graph, which the next update writes to
    _, metrics, state = _keeping(lambda: ({}, {"kl": reused}, State(reused, reused)))()
    reused += 1
    assert not any(x.any() for x in (*metrics.values(), *state))


def test_a_machine_without_a_compiler_goes_on_uncompiled(monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("No working C++ compiler found.\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    agent, _, batch = build("vector, buttons", "cpu")
    assert agent.compile_parts() is agent
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "No working C++ compiler found)." in said
    agent.update(batch)


def test_train_compiles_if_asked_to(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(Dreamer, "compile_parts", lambda agent: calls.append(agent.device.type))
    words = ["train", "CartPole-v1", "--steps", "4", "--device", "cpu", "--eval-episodes", "0"]
    for more in ([], ["--compile"]):
        assert main([*words, "--out", str(tmp_path / str(len(more))), *more]) == 0
    assert calls == ["cpu"]
