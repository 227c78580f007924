"""A trained agent in a web page: its weights as text, and the JavaScript that runs them."""

import base64
import copy
import dataclasses
import html
import importlib.resources
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.checkpoint import try_writing
from wmlib.distributions import kl_divergence, symexp
from wmlib.envs.make import make_env
from wmlib.envs.rows import RowEnv
from wmlib.errors import BadInput
from wmlib.play import play
from wmlib.pretrained import load_pretrained
from wmlib.rssm import State
from wmlib.runtime import own_randomness
from wmlib.spaces import Space, act_kind, action_size, alike, classes, each, encode_action, obs_kind

__all__ = ["content", "engine", "pack", "player", "reference", "script", "site_scripts", "write"]

UNUSED = ("critic.slow.", "return_scale.")  # weights that only learning needs
CONFIG = ("deter", "stoch", "classes", "blocks", "bins", "unimix", "coder")


def script(name: str) -> str:
    """The text of a file of this folder, such as "worlds.js"."""
    return importlib.resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def engine() -> str:
    """The engine: plain JavaScript that defines `Agent`, `selfTest` and all they need."""
    return script("engine.js") + script("selftest.js")


def player() -> str:
    """The engine, its worlds, and `mount(element, page)`, which puts a player into an element."""
    inside = f"<style>{script('player.css')}</style>{script('player.html')}"
    template = f"const TEMPLATE = {as_json(inside)};\n"
    return template + engine() + script("worlds.js") + script("dream.js") + script("player.js")


def as_json(value: Any) -> str:
    """JSON that can stand within a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def site_scripts() -> dict[str, str]:
    """Scripts, by file name, that bring shipped agents to every `.wmlib-player` of a page.

    Such an element names what it shows: `data-player="console"`. Without them it keeps its content.
    """
    shown = content(load_pretrained("curtain"), {"id": "wmlib/Curtain-v0"})
    start = """
for (const host of document.querySelectorAll(".wmlib-player"))
  if (WMLIB_PAGES[host.dataset.player]) mount(host, WMLIB_PAGES[host.dataset.player]);
"""
    return {
        "wmlib-pages.js": f"const WMLIB_PAGES = {as_json({'console': shown})};",
        "wmlib-player.js": f"(() => {{\n{player()}{start}}})();\n",
    }


def write(
    agent: Dreamer, world: Any = None, path: str | Path = "dream.html", **settings: Any
) -> int:
    """Write one HTML file in which the agent dreams on its own; returns its size in bytes.

    world, settings: as for `content`.

    Raises:
        BadInput: the path does not end in .html or cannot be written, or as `content` does.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise BadInput(f"The page cannot be named {path}; its name must end in .html.")
    if not path.parent.is_dir():
        raise BadInput(f"Cannot write {path}: there is no directory {path.parent}.")
    try_writing(path.parent, path)
    page = content(agent, world, **settings)
    show = 'const player = mount(document.getElementById("dream"), PAGE, { address: true });'
    code = f"const PAGE = {as_json(page)};\n{player()}{show}"
    text = script("page.html").replace("{{title}}", html.escape(page["title"]))
    return path.write_bytes(text.replace("{{script}}", code).encode())


def content(
    agent: Dreamer,
    world: Any = None,
    context: int = 4,
    horizon: int = 60,
    seed: int = 0,
    halves: bool = True,
) -> dict[str, Any]:
    """What `mount` needs to show an agent and its world, as JSON values.

    world: the agent's, as a dict of arguments of `make_env`, as its first argument, or made; None
    is the shipped one with the same spaces. Curtain and CartPole-v1 are in the page; of other
    worlds it holds an episode that the agent plays now, from `seed`. context: frames that the model
    sees before its eyes close. horizon: frames it then dreams, before they open again.
    halves: weights in half precision.

    Raises:
        BadInput: `context` or `horizon` is below 1, or the world is not the agent's.
    """
    for name, frames in (("context", context), ("horizon", horizon)):
        if frames < 1:
            raise BadInput(f"The {name} is {frames}; it must be at least 1.")
    agent = copy.deepcopy(agent).cpu()
    spec = arguments(agent, world)
    env = make_env(**{**spec, "num_envs": 1}, seed=seed)
    agent.check_spaces(env.single_observation_space, env.single_action_space)
    large = sum(int(np.prod(part["shape"])) for part in parts_of(agent.obs_space)) > 4096
    with own_randomness(agent.device, seed):
        rows = play(agent, env, 60 if large else 160, seed)
        short = {k: each(lambda x: x[:, : 3 if large else 10], v) for k, v in rows.items()}
        page = {
            "title": f"A dream of {re.split('[/:]', spec['id'])[-1]}",
            "context": context,
            "horizon": horizon,
            "seed": seed + 1,
            "pack": pack(agent, halves),
            "reference": thin(reference(agent, short, 3 if large else 10)),
            **world_of(agent, env, spec, rows),
        }
    env.close()
    return page


def arguments(agent: Dreamer, world: Any) -> dict[str, Any]:
    """Arguments of `make_env` for a world, however it is given."""
    if isinstance(world, dict):
        return world
    if world is not None:
        return (world if isinstance(world, RowEnv) else make_env(world)).spec
    for name in ("wmlib/Curtain-v0", "CartPole-v1"):
        env = make_env(name)
        if alike(agent.obs_space, env.single_observation_space) and alike(
            agent.act_space, env.single_action_space
        ):
            return env.spec
    raise BadInput('The page needs the world of this agent: agent.page("dream.html", env).')


def world_of(
    agent: Dreamer, env: RowEnv, spec: dict[str, Any], rows: dict[str, Any]
) -> dict[str, Any]:
    """The world beside the dream, as JSON values: rules, or rows that were played."""
    rules = getattr(env.vec, "rules", None)
    plain_world = not spec.get("pixels") and not spec.get("kwargs")
    if rules is not None and not spec.get("pixels"):
        choices = ["◀ left", "stay", "right ▶"]
        return {"world": "curtain", "rules": dataclasses.asdict(rules), "choices": choices}
    if spec["id"] == "CartPole-v1" and plain_world:
        return {"world": "cartpole", "choices": ["◀ left", "right ▶"]}
    action = torch.as_tensor(rows["prev_action"])
    vectors = encode_action(action, agent.act_space)[0].tolist()
    last = rows["is_last"][0]
    length = int(last.argmax()) + 1 if last.any() else len(last)
    record = []
    for t in range(length):
        obs = each(lambda x, t=t: packed(np.asarray(x)[0, t]), rows["obs"])
        record.append(
            {
                "obs": obs if isinstance(obs, dict) else {"": obs},
                "action": vectors[t],
                "reward": float(rows["reward"][0, t]),
            }
        )
    return {"world": "recorded", "rows": record} | named_choices(agent.act_space)


def named_choices(space: Space) -> dict[str, Any]:
    """Words for what a person can do, where indices do not say it."""
    if act_kind(space) != "continuous":
        return {}
    pairs = [[f"{k} −", f"{k} +"] for k in range(1, action_size(space) + 1)]
    return {"choices": ["rest", *(word for pair in pairs for word in pair)]}


def packed(seen: np.ndarray) -> Any:
    """One part of an observation: bytes of images in base64, numbers as a list."""
    if seen.dtype == np.uint8 and seen.ndim == 3:
        return base64.b64encode(seen.tobytes()).decode()
    return seen.ravel().tolist()


def thin(tree: Any, name: str = "") -> Any:
    """Numbers in seven digits, of long lists every k-th by its index; h and what was seen whole."""
    if isinstance(tree, dict):
        return {key: part if key == "obs" else thin(part, key) for key, part in tree.items()}
    if isinstance(tree, float):
        return tree if name == "h" else float(f"{tree:.7g}")
    if isinstance(tree, list) and len(tree) > 128 and name != "h":
        return {i: thin(tree[i]) for i in range(0, len(tree), len(tree) // 64)}
    return [thin(part, name) for part in tree] if isinstance(tree, list) else tree


def pack(agent: Dreamer, halves: bool = True) -> dict[str, Any]:
    """What the engine needs of an agent, as JSON values; `halves` are weights in half precision."""
    tensors = {k: v for k, v in agent.state_dict().items() if not k.startswith(UNUSED)}
    kind = np.float16 if halves else np.float32
    flat = [
        tensor.detach().cpu().float().numpy().astype(kind).ravel() for tensor in tensors.values()
    ]
    return {
        "config": {name: getattr(agent.config, name) for name in CONFIG},
        "parts": parts_of(agent.obs_space),
        "action": action_of(agent.act_space),
        "tensors": [
            [name, list(tensor.shape)] for name, tensor in tensors.items()
        ],  # in this order
        "halves": halves,
        "data": base64.b64encode(np.concatenate(flat).tobytes()).decode(),
    }


def parts_of(space: Space) -> list[dict[str, Any]]:
    """Name, kind, shape, and place among the coders of every part of an observation."""
    if obs_kind(space) == "dict":
        inside = enumerate(space.spaces.items())
        return [about(part, key, f".parts.{i}") for i, (key, part) in inside]
    return [about(space, "", "")]


def about(space: Space, name: str, place: str) -> dict[str, Any]:
    """One part of an observation, as JSON values."""
    found = {"name": name, "place": place, "kind": obs_kind(space), "shape": list(space.shape)}
    if found["kind"] == "discrete":
        found["sizes"] = np.atleast_1d(classes(space)).ravel().tolist()
    return found


def action_of(space: Space) -> dict[str, Any]:
    """Kind and sizes of the action, as JSON values."""
    if act_kind(space) == "continuous":
        return {"kind": "continuous", "size": action_size(space)}
    return {"kind": "discrete", "sizes": np.atleast_1d(classes(space)).ravel().tolist()}


@torch.no_grad()
def reference(agent: Dreamer, rows: dict[str, Any], horizon: int = 10) -> list[dict[str, Any]]:
    """Steps of one world, observed and then dreamt on, with all that the model makes of each.

    rows: one stream of what `wmlib.play` returns, obs (1, T, ...), prev_action (1, T[, A]),
    is_first (1, T). The engine takes the same z and must come to the same numbers.
    """
    agent = copy.deepcopy(agent).cpu()
    batch, _ = agent.tensors(
        {k: rows[k] for k in ("obs", "prev_action", "is_first")} | {"action": rows["action"]}
    )
    seen = agent.world.observe(batch)
    embed = agent.world.encoder(batch["obs"])
    steps = []
    for t in range(seen.prior.shape[1]):
        state = State(seen.state.h[:, t], seen.state.z[:, t])
        obs = each(lambda x, t=t: np.asarray(x)[0, t].ravel().tolist(), rows["obs"])
        step = {
            "obs": obs if isinstance(obs, dict) else {"": obs},
            "action": batch["prev_action"][0, t].tolist(),
            "first": bool(rows["is_first"][0, t]),
        }
        extra = {"posterior": seen.posterior[:, t], "embed": embed[:, t]}
        extra["surprise"] = kl_divergence(seen.posterior[:, t], seen.prior[:, t])
        steps.append(step | wanted(agent, state, seen.prior[:, t], extra))
    for _ in range(horizon):
        action = agent.actor(state.feature).sample()
        state = agent.world.rssm.step(state, action)
        step = {"action": action[0].tolist()}
        steps.append(step | wanted(agent, state, agent.world.rssm.prior(state.h), {}))
    return steps


def wanted(agent: Dreamer, state: State, prior: Tensor, extra: dict[str, Tensor]) -> dict[str, Any]:
    """The chosen classes of a step, and what all parts make of its state, as JSON values."""
    world, feature = agent.world, state.feature
    policy = agent.actor(feature)
    drawn = world.decode(state)
    groups = getattr(policy, "groups", [policy])
    normal = {"mean": getattr(policy, "mean", None), "std": getattr(policy, "std", None)}
    found = {
        "h": state.h,
        "prior": prior,
        "reward": mean_of(world.reward_head, feature),
        "continues": world.continues(feature),
        "value": mean_of(agent.critic.fast, feature),
        "decode": drawn if isinstance(drawn, dict) else {"": drawn},
        "policy": [g.probs for g in groups] if normal["mean"] is None else normal,
    }
    return {"z": state.z[0].argmax(-1).tolist(), "wanted": plain(found | extra)}


def mean_of(head: torch.nn.Module, feature: Tensor) -> Tensor:
    """Expected value (B,) of a head, in float64: bins of 5e8 leave float32 two right digits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RMSNorm says that it is slower with double gains
        probs = torch.softmax(copy.deepcopy(head).double()(feature.double()), -1)
    bins = symexp(torch.linspace(-20, 20, probs.shape[-1], dtype=torch.float64))
    return (probs - probs.flip(-1))[..., len(bins) // 2 :] @ bins[len(bins) // 2 :]


def plain(tree: Any) -> Any:
    """The first of every batch, as lists of numbers; pictures and grids flat."""
    if isinstance(tree, dict):
        return {key: plain(part) for key, part in tree.items()}
    if isinstance(tree, list):
        return [plain(part) for part in tree]
    one = tree[0] if tree.dtype == torch.float64 else tree[0].float()
    return (one.flatten() if one.ndim > 2 else one).tolist()
