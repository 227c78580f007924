"""Learn from recorded rows, without a world.

Legend: N streams of T rows, each with the action that was chosen after it; A action dimensions.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from wmlib.agent import Dreamer
from wmlib.checkpoint import describe_agent, open_run, write_checkpoint, write_metrics
from wmlib.config import Config
from wmlib.envs.rows import Row
from wmlib.errors import BadInput
from wmlib.replay import (
    FLAGS,
    Replay,
    check_array,
    check_range,
    flat_obs,
    obs_names,
    obs_spaces,
    row_fields,
)
from wmlib.runtime import interruptible, pick_device, seed_everything
from wmlib.spaces import ObsReader, Space, Tree, act_kind, classes, each, to_json

__all__ = ["train_model"]


def train_model(
    rows: Mapping[str, Tree],
    obs_space: Space,
    act_space: Space,
    config: Config,
    updates: int,
    out: str | Path | None = None,
    seed: int = 0,
    behaviour: bool = False,
    device: str = "cpu",
    progress: bool = True,
) -> Dreamer:
    """Train a new agent on recorded rows; returns it.

    rows: arrays by name as `wmlib.play` returns them, obs (N, T, ...), action (N, T[, A]), reward,
    is_first, is_last and is_terminal (N, T); other names are ignored. A stream may hold several
    episodes. The reward of a row is the one that arrived with its observation. Spaces and rows are
    in the units of `make_env(...).single_observation_space` and `.single_action_space`.
    Only the world model learns, unless `behaviour`: then actor and critic learn in its dreams as
    well. With `out` metrics and, at the end, weights are written to that directory. Ctrl-C ends it
    after the update under way; the agent is then what it has become so far.

    Raises:
        BadInput: rows that are not like this, too few of them, updates below 1, or a directory in
            use.
        FloatingPointError: a loss became NaN or infinite.
    """
    if updates < 1:
        raise BadInput(f"updates is {updates}; it must be at least 1.")
    data = check_rows(rows, obs_space, act_space)
    seed_everything(seed)
    agent = Dreamer(obs_space, act_space, config).to(pick_device(device))
    replay = fill(data, obs_space, act_space, config, seed)
    world = {"id": "recorded rows", "num_envs": replay.num_envs, "pixels": False, "size": 64}
    about = describe_agent(agent, {**world, "kwargs": {}}, seed)
    about["world"] = ObsReader(obs_space, size=4096).to_json() | {"act_space": to_json(act_space)}
    run = open_run(out, about) if out is not None else None
    bar = tqdm(total=updates, unit="update", disable=not progress, file=sys.stderr)
    began = logged = time.monotonic()
    recent: list[dict[str, Tensor]] = []
    done = 0
    with interruptible() as stopped, bar:
        while done < updates and not stopped:
            sample = replay.sample(config.batch_size)
            batch, start = agent.tensors(sample)
            try:
                metrics, state = agent.update(batch, start, behaviour)
            except FloatingPointError as error:
                raise FloatingPointError(f"Stopped after {done} updates: {error}.") from None
            if config.stored_latents:
                deter, stoch = state.h.cpu().numpy(), state.z.argmax(-1).cpu().numpy()
                replay.refresh(sample["index"], deter, stoch)
            done += 1
            recent.append(metrics)
            now = time.monotonic()
            if now - logged > 2.0 or done == updates or stopped:
                line = {"updates": done, "seconds": round(now - began, 2)}
                line |= {k: float(torch.stack([m[k] for m in recent]).mean()) for k in metrics}
                if run is not None:
                    write_metrics(run / "metrics.csv", [line], ("updates", "seconds"))
                bar.set_postfix({k: f"{line[k]:.3g}" for k in ("rec", "kl")}, refresh=False)
                bar.update(done - bar.n)
                recent.clear()
                logged = now
    if run is not None:
        about |= {"steps": 0, "updates": done}
        write_checkpoint(run, done, {"agent": (agent.state_dict(), about)})
    return agent


def check_rows(rows: Mapping[str, Tree], obs_space: Space, act_space: Space) -> dict[str, Tree]:
    """Return what is learnt from, as arrays, or raise BadInput with what is wrong."""
    names = ("obs", *FLAGS, "action")
    if missing := [name for name in names if name not in rows]:
        needed = ", ".join(names)
        raise BadInput(f"The rows have no {missing[0]!r}; needed are {needed}.")
    if act_kind(act_space) == "continuous":
        bounds = np.array([act_space.low, act_space.high], np.float64)
        if np.isfinite(bounds).any() and (bounds != [[-1], [1]]).any():
            raise BadInput(
                "Actions must be scaled to their bounds, from -1 to 1, as they are in "
                f"make_env(...).single_action_space; the space given is {act_space}."
            )
    shape = np.shape(rows["reward"])
    if len(shape) != 2 or 0 in shape:
        raise BadInput(f"reward must be of shape (streams, rows), not {shape}.")
    fields = row_fields(obs_space, act_space, None)
    given = {**rows, **flat_obs(obs_space, rows["obs"])}
    data = {
        name: check_array(name, given[name], (*shape, *field.shape), field.kind)
        for name, field in fields.items()
    }
    for name, space in (*obs_spaces(obs_space).items(), ("action", act_space)):
        if fields[name].kind == "integers":
            check_range(name, data[name], classes(space))
    for name, array in data.items():
        with np.errstate(over="ignore"):
            if array.dtype.kind == "f" and not np.isfinite(array.astype(np.float32)).all():
                place = np.argwhere(~np.isfinite(array.astype(np.float32)))[0][:2].tolist()
                raise BadInput(f"{name} is not finite in stream {place[0]}, row {place[1]}.")
    first, last = data["is_first"], data["is_last"]
    rules = {
        "is_terminal is True where is_last is False": data["is_terminal"] & ~last,
        "is_last is True, but is_first is False in the next row": np.pad(
            last[:, :-1] & ~first[:, 1:], ((0, 0), (0, 1))
        ),
        "there is a reward where is_first is True, but rewards belong to the row that they arrive "
        "with": first & (data["reward"] != 0),
    }
    for sentence, broken in rules.items():
        if broken.any():
            stream, row = np.argwhere(broken)[0].tolist()
            raise BadInput(f"In stream {stream}, row {row}, {sentence}.")
    return data | {"obs": each(data.__getitem__, obs_names(obs_space))}


def fill(
    data: dict[str, Tree], obs_space: Space, act_space: Space, config: Config, seed: int
) -> Replay:
    """A replay that holds all of these rows; the stored latents, if any, are zeros at first."""
    streams, length = data["reward"].shape
    c = config
    latents = (c.deter, c.stoch) if c.stored_latents else None
    window = c.batch_length + c.stored_latents
    if length < window:
        raise BadInput(
            f"The streams have {length} rows; batch_length {c.batch_length} needs {window}."
        )
    replay = Replay(
        obs_space,
        act_space,
        streams,
        c.batch_length,
        capacity_bytes=c.replay_bytes,
        capacity_rows=c.replay_rows,
        latents=latents,
        seed=seed,
    )
    if replay.capacity < length:
        raise BadInput(
            f"The rows are {length} in each of {streams} streams, and the replay keeps "
            f"{replay.capacity}; raise replay_rows ({c.replay_rows}) or replay_bytes "
            f"({c.replay_bytes})."
        )
    empty: tuple = (None, None)
    if latents is not None:
        empty = np.zeros((streams, c.deter), np.float16), np.zeros((streams, c.stoch), np.uint8)
    for t in range(length):
        obs = each(lambda part, t=t: part[:, t], data["obs"])
        row = Row(obs, *(data[name][:, t] for name in FLAGS))
        replay.add(row, data["action"][:, t], *empty)
    return replay
