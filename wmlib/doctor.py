"""What an agent will find in a world, and how to begin: env.describe(), python -m wmlib doctor ENV.

Everything is measured in copies of the world: random play says what rows and rewards are like, a
second play with the same seed whether runs can be resumed, and a few updates of a real trainer how
far the suggested run will get. The advice is a handful of rules on what was measured; the name of
the world plays no part in it.

Legend: N copies of the world, T rows of each.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from gymnasium.spaces import Box

from wmlib.agent import Dreamer
from wmlib.config import Config, preset
from wmlib.envs.make import find_spec
from wmlib.envs.rows import Row, RowEnv
from wmlib.errors import BadInput
from wmlib.play import LONGEST, endings
from wmlib.replay import Replay, flat_obs, obs_spaces
from wmlib.runtime import own_randomness, pick_device
from wmlib.spaces import (
    SYMBOLS,
    Space,
    act_kind,
    action_size,
    bounds,
    classes,
    describe,
    obs_kind,
    random_actions,
)
from wmlib.trainer import Trainer

__all__ = ["Report", "advise", "examine", "lines", "report"]

PLAYERS = 4  # copies at random play: few, so that long episodes come to an end
STEPS = 20_000  # of random play, at most
AGAIN = 200  # rows of a second play with the same seed, at most
KEPT = 500  # observations whose spread is measured, of each copy
FAINT = 0.01  # spread after symlog below which a number hardly counts in the reconstruction
FAR, VERY_FAR = 30, 1000  # steps of an episode that need longer dreams than preset `tiny` has
DENSE = 0.5  # share of steps with an unusual reward beyond which the near future tells enough
BEGINNING = 0.2  # of a run, at most, for random play, and for updates of the model alone
RATIO = 128.0  # replayed rows per step, at most
ENOUGH = 1000  # updates of a run that may be expected to have learnt something
NAMED = 6  # inputs that a sentence names

Advice: TypeAlias = dict[str, tuple[Any, str]]  # key of the config -> its value, and the reason


# ---------------------------------------------------------------- measure


class Play(NamedTuple):
    """Random play in N copies."""

    rows: list[Row]  # the first ones, for spread and repetition
    actions: list[np.ndarray]  # after each of these rows
    rewards: np.ndarray  # of all rows that are not the first of an episode
    returns: list[float]
    lengths: list[int]  # steps
    terminal: list[bool]  # whether an episode ended for good, not by a time limit
    steps: int
    rate: float  # steps a second
    sound: bool  # the flags of the rows fit together


def play_randomly(env: RowEnv, seconds: float, seed: int) -> Play:
    """Random play of `env`, from a reset with this seed, for so long or STEPS steps."""
    rng = np.random.default_rng(seed)
    count = env.num_envs
    rows, actions, rewards = [], [], []
    returns, lengths, terminal = [], [], []
    total, age = np.zeros(count), np.zeros(count, int)
    row = env.reset(seed=seed)
    sound = bool(row.is_first.all() and not row.reward.any())
    began = time.perf_counter()
    steps = 0
    while steps < STEPS and (time.perf_counter() - began < seconds or len(rows) < 2):
        action = random_actions(env.single_action_space, count, rng)
        if len(rows) < KEPT:
            rows.append(row)
            actions.append(action)
        before, row = row, env.step(action)
        if not env.same_step:
            sound &= bool((row.is_first == before.is_last).all())
        sound &= not row.reward[row.is_first].any()
        sound &= not (row.is_terminal & ~row.is_last).any()
        ended = row.is_terminal if row.final is None else np.zeros(count, bool)
        if row.final is not None:
            ended[row.final.envs] = row.final.is_terminal
        for envs, reward, last in endings(row):
            fresh = row.is_first[envs] & ~last
            steps += int((~fresh).sum())
            rewards.append(reward[~fresh])
            total[envs] += reward
            age[envs] += ~fresh
            for i in envs[last]:
                returns.append(float(total[i]))
                lengths.append(int(age[i]))
                terminal.append(bool(ended[i]))
                total[i], age[i] = 0.0, 0
    rate = steps / (time.perf_counter() - began)
    return Play(
        *(rows, actions, np.concatenate(rewards), returns, lengths, terminal, steps, rate, sound)
    )


def repeats(env: RowEnv, play: Play, seconds: float, seed: int) -> bool:
    """Whether the same seed and actions give the same rows again, in another copy."""
    row = env.reset(seed=seed)
    began = time.perf_counter()
    for before, action in list(zip(play.rows, play.actions, strict=True))[:AGAIN]:
        if not same(before, row):
            return False
        if time.perf_counter() - began > seconds:
            break
        row = env.step(action)
    return True


def same(one: Row, other: Row) -> bool:
    """Whether two rows hold the same."""
    pairs = [(getattr(one, k), getattr(other, k)) for k in ("reward", "is_last", "is_terminal")]
    mine, its = one.obs, other.obs
    pairs += [(mine[k], its[k]) for k in mine] if isinstance(mine, dict) else [(mine, its)]
    return all(np.array_equal(a, b) for a, b in pairs)


def spread(space: Space, rows: list[Row]) -> dict[str, Any]:
    """How far every number moved in random play, after symlog; what never moved, what hardly did.

    Of classes and pictures only the share that never changed is counted.
    """
    found: dict[str, Any] = {"numbers": {}, "constant": [], "faint": [], "still": {}}
    seen = [flat_obs(space, row.obs) for row in rows]
    for field, part in obs_spaces(space).items():
        name = field.removeprefix("obs.")
        some = seen if obs_kind(part) == "vector" else seen[:: max(1, len(seen) // 100)]
        values = np.concatenate([obs[field] for obs in some])
        if obs_kind(part) != "vector":
            found["still"][name] = round(float((np.ptp(values, 0) == 0).mean()), 3)
            continue
        values = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
        for i, (low, high, sd) in enumerate(
            zip(values.min(0), values.max(0), values.std(0), strict=True)
        ):
            key = f"{name}[{i}]"
            found["numbers"][key] = {
                "min": float(f"{low:.3g}"),
                "max": float(f"{high:.3g}"),
                "sd": float(f"{sd:.2g}"),
            }
            if high == low:
                found["constant"].append(key)
            elif sd < FAINT:
                found["faint"].append(key)
    return found


def progress(env: RowEnv, config: Config, device: torch.device, seconds: float) -> dict[str, float]:
    """Seconds that a step of all environments, an update, and one of the world model alone take.

    They are medians, from a real trainer whose replay has just become large enough.
    """
    agent = Dreamer(env.single_observation_space, env.single_action_space, config)
    trainer = Trainer(agent.to(device), env)
    trainer.config = config.replace(random_steps=0)  # learning may begin at once
    spent: dict[str, list[float]] = {"collect": [], "learn": [], "model": []}
    began = time.perf_counter()
    while not trainer.ready:
        spent["collect"].append(clocked(trainer.collect))
        if time.perf_counter() - began > 10 * seconds:  # a very slow world: what is known, is known
            return {"collect": float(np.median(spent["collect"])), "learn": 0.0, "model": 0.0}
    for _ in range(2):  # the first ones wait for memory and threads
        trainer.learn()
    began = time.perf_counter()
    while len(spent["learn"]) < 3 or time.perf_counter() - began < seconds:
        spent["learn"].append(clocked(trainer.learn))
        if len(spent["learn"]) % 3 == 0:
            spent["model"].append(clocked(lambda: trainer.learn(behaviour=False)))
    return {name: float(np.median(times)) for name, times in spent.items()}


def clocked(call: Callable[[], object]) -> float:
    """Seconds that a call takes; what a trainer does ends with a copy to the CPU."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def expected(config: Config, took: dict[str, float], minutes: float) -> dict[str, float]:
    """Environment steps and updates of a run of so many minutes."""
    left = 60 * minutes
    start = min(config.random_steps / config.num_envs * took["collect"], left)
    steps = start / took["collect"] * config.num_envs
    left -= start
    model = min(config.model_updates, left / max(took["model"], 1e-9))
    left -= model * took["model"]
    learning = owed(config) * took["learn"]
    ticks = left / (took["collect"] + learning)
    steps += ticks * config.num_envs
    return {
        "minutes": minutes,
        "steps": round(steps),
        "updates": round(model + ticks * owed(config)) if took["learn"] else 0,
        "updates_per_second": round(1 / took["learn"], 2) if took["learn"] else 0.0,
        "world_share": round(took["collect"] / (took["collect"] + learning), 2),
    }


# ---------------------------------------------------------------- advise


def advise(found: dict) -> Advice:
    """The keys of preset `tiny` to change for what was found, each with its reason.

    A world that could not be played has no "random" and no "time_limit".
    """
    changes: Advice = {}
    random, reward = found.get("random", {}), found.get("reward", {"varied_share": 0.0})
    length = found.get("time_limit") or random.get("length_mean") or (LONGEST if random else FAR)
    if length >= FAR:
        horizon, last = (30, 4) if length >= VERY_FAR else (15, 8)
        lasts = f"may last {length:.0f} steps" if length < LONGEST and random else "may be long"
        changes["horizon"] = (horizon, f"episodes {lasts}, so dreams should be longer")
        changes["imagine_last"] = (last, f"{last} rows of each window pay for longer dreams")
        if reward["varied_share"] > DENSE:
            reason = "rewards vary from step to step, so the near future tells enough"
            changes["discount_horizon"] = (100, reason)
    if all(part["kind"] != "image" for part in found["observation"]):
        changes["random_steps"] = (1000, "without pictures the model is soon good enough")
        changes["model_updates"] = (300, "for the same reason")
    return changes


def afford(config: Config, took: dict[str, float], minutes: float) -> Advice:
    """More keys to change, for the time that steps and updates take: see `progress`."""
    changes: Advice = {}
    most = 60 * minutes * BEGINNING
    steps = round(most / took["collect"]) * config.num_envs
    if steps < config.random_steps:
        changes["random_steps"] = (steps, "the world is slow, and acting should begin soon")
    updates = round(most / took["model"]) if took["model"] else config.model_updates
    if updates < config.model_updates:
        changes["model_updates"] = (updates, "updates are slow, and acting should begin soon")
    ratio = config.ratio
    while took["learn"] * owed(config.replace(ratio=ratio)) < took["collect"] and ratio < RATIO:
        ratio *= 2
    if ratio > config.ratio:
        changes["ratio"] = (ratio, "the world is slow, so more should be learnt from each step")
    return changes


def owed(config: Config) -> float:
    """Updates after a step of all environments."""
    return config.num_envs * config.ratio / (config.batch_size * config.batch_length)


# ---------------------------------------------------------------- spaces in words


def observed(env: RowEnv) -> list[dict[str, Any]]:
    """Name, kind, number of network inputs and a few words for every part of an observation."""
    found = []
    for field, space in obs_spaces(env.single_observation_space).items():
        name = field.removeprefix("obs").removeprefix(".")
        raw = env.reader.declared[name]
        kind = obs_kind(space)
        size = int(classes(space).sum()) if kind == "discrete" else int(np.prod(space.shape))
        if kind == "image":
            height, width, channels = space.shape
            what = f"a picture of {height} x {width} with {plural(channels, 'channel')}"
            if sorted((height, width, channels)) != sorted((*raw.shape, 1)[:3]):
                what += f", made from a {describe(raw)}"
        elif kind == "vector":
            what = plural(size, "number")
        elif not space.shape:
            what = f"one of {size} classes"
        else:
            grid, counts = by(space.shape), np.unique(classes(space))
            kinds = " or ".join(map(str, counts)) if len(counts) < 4 else f"up to {counts.max()}"
            word = "a grid of symbols" if isinstance(raw, Box) else "classes"
            what = f"{word} ({grid}), each one of {kinds}, so {size} one-hot inputs"
            if env.reader.symbolic is None and guessed(raw):
                what += "; if there are only N kinds, --symbolic N makes it faster"
        found.append({"name": name, "kind": kind, "size": size, "what": what})
    return found


def guessed(raw: Space) -> bool:
    """Whether the bounds of a grid did not say of how many kinds its symbols are."""
    return isinstance(raw, Box) and float(raw.high.max()) - float(raw.low.min()) >= SYMBOLS


def acted(env: RowEnv) -> dict[str, Any]:
    """Kind, width and a few words for what the agent does."""
    raw: Space = env.vec.single_action_space
    kind, size = act_kind(raw), action_size(env.single_action_space)
    if kind == "continuous":
        low, high = (limit.reshape(-1) for limit in bounds(raw))
        ranges = [f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True)]
        if len(set(ranges)) == 1:
            ranges = ranges[:1]
        what = f"{plural(size, 'number')}; the agent's -1 to 1 become {listed(ranges)}"
        free = int((~np.isfinite(raw.low) | ~np.isfinite(raw.high)).sum())
        if free:
            what += f"; {free} of them have no bounds, so -1 or 1 is the most that is tried"
    elif env.single_action_space.shape:
        counts = classes(env.single_action_space).reshape(-1)
        what = f"{plural(len(counts), 'choice')} at once, among {listed(list(map(str, counts)))}"
    else:
        what = f"one of {size}"
    return {"kind": kind, "size": size, "what": what}


def plural(count: int, word: str) -> str:
    """A count and its word: 1 number, 2 numbers."""
    return f"{count:,} {word}" + "s" * (count != 1)


def number(value: float) -> str:
    """Three digits that count, or all before the point: 0.0237, 12.3, -1,249."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def by(shape: Sequence[int]) -> str:
    """A shape in words: 7 x 7 x 3."""
    return " x ".join(map(str, shape))


def listed(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- the whole


def examine(
    env: RowEnv,
    seconds: float = 5.0,
    minutes: float = 5.0,
    device: str = "auto",
    imports: Sequence[str] = (),
) -> dict[str, Any]:
    """Look at a world and say how to begin, as JSON values; `env` itself is left alone.

    `seconds` are played at random and as many trained, in copies of `env`; an environment that
    cannot be copied is judged by its spaces only. `minutes` is how long the suggested run should
    take, `imports` are modules that its command has to import.

    Raises:
        BadInput: seconds or minutes that are not positive, an unknown device, or an environment
            that fails.
    """
    for name, value in (("seconds", seconds), ("minutes", minutes)):
        if not 0 < value < float("inf"):
            raise BadInput(f"{name} is {value}; it must be positive.")
    where = pick_device(device)
    found: dict[str, Any] = {"env": env.spec["id"], "device": str(where)}
    found |= {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    found |= {"observation": observed(env), "action": acted(env), "notes": []}
    with own_randomness(where, 0):
        if env.remake is not None:
            found |= played(env, seconds)
        else:
            found["notes"].append(
                "This environment cannot be made again, so it was not played; give `make_env` its "
                "class, or a function that makes one."
            )
        changes = advise(found)
        config = configured(changes)
        if env.remake is not None:
            with contextlib.closing(env.copies(config.num_envs, env.seed)) as copy:
                took = progress(copy, config, where, seconds)
            changes |= afford(config, took, minutes)
            config = configured(changes)
            found["expected"] = expected(config, took, minutes)
    found["preset"] = config.name
    found["changes"] = {key: value for key, (value, _) in changes.items()}
    found["reasons"] = {key: reason for key, (_, reason) in changes.items()}
    found["memory"] = memory(env, config, found.get("expected", {}).get("steps", 0))
    found["notes"] += warnings(found)
    found["command"] = command(env, found, minutes, device, imports)
    return found


def configured(changes: Advice) -> Config:
    """Preset `tiny` with these changes."""
    return preset("tiny", **{key: value for key, (value, _) in changes.items()})


def played(env: RowEnv, seconds: float) -> dict[str, Any]:
    """What random play shows."""
    with contextlib.closing(env.copies(PLAYERS, env.seed)) as copy:
        play = play_randomly(copy, seconds, env.seed)
        exact = bool(copy.state_dict()["exact"])
    with contextlib.closing(env.copies(PLAYERS, env.seed)) as copy:
        again = repeats(copy, play, seconds, env.seed)
    limits = {n for n, last in zip(play.lengths, play.terminal, strict=True) if not last}
    size = np.abs(play.rewards)
    _, counts = np.unique(play.rewards, return_counts=True)
    random: dict[str, Any] = {
        "steps": play.steps,
        "steps_per_second": round(play.rate),
        "episodes": len(play.returns),
    }
    if play.returns:
        random |= {
            "return_mean": round(float(np.mean(play.returns)), 4),
            "return_std": round(float(np.std(play.returns)), 4),
            "length_mean": round(float(np.mean(play.lengths)), 1),
            "length_std": round(float(np.std(play.lengths)), 1),
            "terminal_share": round(float(np.mean(play.terminal)), 3),
        }
    return {
        "rows_fit": play.sound,
        "repeats": again,
        "resumable": again and exact,
        "time_limit": declared_limit(env) or (limits.pop() if len(limits) == 1 else None),
        "random": random,
        "reward": {
            "nonzero_share": round(float((size > 0).mean()), 4),
            "largest": round(float(size.max()), 4),
            "varied_share": round(1 - float(counts.max()) / len(size), 4),
            "mean": round(float(play.rewards.mean()), 4),
        },
        "inputs": spread(env.single_observation_space, play.rows),
    }


def declared_limit(env: RowEnv) -> int | None:
    """Steps after which Gymnasium cuts an episode, if it knows of such a limit."""
    first = getattr(env.vec, "envs", [env.vec])[0]
    return getattr(getattr(first, "spec", None), "max_episode_steps", None)


def memory(env: RowEnv, config: Config, steps: float) -> dict[str, int]:
    """Bytes of a row in the replay memory, rows that fit into it, and bytes of the whole run."""
    latents = (config.deter, config.stoch) if config.stored_latents else None
    spaces = (env.single_observation_space, env.single_action_space)
    replay = Replay(
        *spaces, 1, config.batch_length, config.replay_bytes, config.replay_rows, latents
    )
    row = replay.nbytes // replay.data["reward"].shape[1]
    return {
        "row_bytes": row,
        "rows": replay.capacity,
        "run_bytes": row * round(min(steps, replay.capacity)),
    }


def warnings(found: dict) -> Iterator[str]:
    """Sentences on what stands in the way, and what to do about it."""
    if not found.get("random"):
        return
    random, reward, inputs = found["random"], found["reward"], found["inputs"]
    if not found["rows_fit"]:
        yield "The flags of its rows contradict each other: see how this world ends episodes."
    if not found["repeats"]:
        yield (
            "The same seed did not give the same rows twice, so runs cannot be repeated or resumed "
            "exactly: draw all chance from self.np_random, which reset(seed=...) seeds."
        )
    if not random["episodes"] and found["time_limit"]:
        yield "No episode came to its end in this time: more --seconds give a random baseline."
    elif not random["episodes"]:
        yield (
            f"No episode ended within {random['steps']:,} steps; an evaluation counts each up to "
            f"{LONGEST:,}. A time limit helps: --env-args max_episode_steps=1000."
        )
    elif random["terminal_share"] == 1 and random["length_std"] == 0 and random["episodes"] > 1:
        yield (
            f"Every episode ended for good after {random['length_mean']:.0f} steps; if that is a "
            "time limit, step() should return truncated=True instead of terminated=True."
        )
    if not reward["nonzero_share"]:
        yield (
            "No reward was ever seen in random play, so there is nothing to learn from until the "
            "agent finds one by chance: make the task easier to begin with, or reward progress."
        )
    elif not reward["varied_share"] and random["episodes"] and not random["terminal_share"]:
        yield (
            "In random play every step was worth the same and no episode ended early, so whether "
            "anything is learnt hangs on a lucky episode."
        )
    if inputs["constant"]:
        yield f"These inputs never changed in random play: {listed(inputs['constant'])}."
    if inputs["faint"]:
        yield (
            f"These inputs hardly change (spread below {FAINT} after symlog), so that the model "
            f"may overlook them: {listed(inputs['faint'])}; multiply them until they vary by about "
            "1."
        )
    if 0 < found["expected"]["updates"] < ENOUGH:
        about = found["expected"]
        needed = ENOUGH / about["updates"] * about["minutes"]
        lasting = plural(round(needed), "minute") if needed < 90 else f"{needed / 60:.0f} hours"
        large = any(p["kind"] == "image" and p["size"] > 3 * 32**2 for p in found["observation"])
        text = f"{about['updates']:,} updates teach little; {ENOUGH:,} take about {lasting}."
        text += " Smaller pictures (--size 32) are faster." * large
        yield text + " A GPU may be faster." * (found["device"] == "cpu")


def command(env: RowEnv, found: dict, minutes: float, device: str, imports: Sequence[str]) -> str:
    """The command line of the suggested run, or its config if the world has no name there."""
    spec, changes = env.spec, found["changes"]
    if env.remake is None or not nameable(spec["id"]):
        values = [repr(found["preset"]), *(f"{key}={value!r}" for key, value in changes.items())]
        return f"wmlib.preset({', '.join(values)})"
    words = ["python", "-m", "wmlib", "train", spec["id"]]
    words += ["--pixels"] if spec.get("pixels") else []
    if spec.get("size", 64) != (32 if spec.get("pixels") else 64):
        words += ["--size", str(spec["size"])]
    words += ["--keys", *spec["keys"]] if spec.get("keys") else []
    if spec.get("symbolic") is not None:
        words += ["--symbolic", str(int(spec["symbolic"]))]
    if spec.get("kwargs"):
        words += ["--env-args", *(f"{k}={v!r}" for k, v in spec["kwargs"].items())]
    words += ["--import", *imports] if imports else []
    words += ["--seed", str(env.seed)] if env.seed else []
    words += ["--preset", found["preset"]]
    for key, value in changes.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    words += ["--device", device] if device != "auto" else []
    return shlex.join([*words, "--minutes", f"{minutes:g}"])


def nameable(id: str) -> bool:
    """Whether the command line finds a world of this name."""
    if id.startswith("__main__:"):
        return False
    try:
        find_spec(id)
    except BadInput:
        return False
    return True


# ---------------------------------------------------------------- the report


class Report(str):
    """Text that is shown as it is, also where Python shows a value."""

    def __repr__(self) -> str:
        return str(self)


def report(env: RowEnv, seconds: float, minutes: float, device: str) -> Report:
    """What `examine` finds, for people."""
    return Report("\n".join(lines(examine(env, seconds, minutes, device))))


def lines(found: dict) -> list[str]:
    """The report of `examine` for people."""
    said = [("World", world_line(found))]
    said += [
        ("Observes", f"{part['name']}: {part['what']}." if part["name"] else f"{part['what']}.")
        for part in found["observation"]
    ]
    said.append(("Acts", found["action"]["what"] + "."))
    if "random" in found:
        said += [("Episodes", episodes_line(found)), ("Reward", reward_line(found))]
        said.append(("Inputs", inputs_line(found["inputs"])))
        said.append(("Seeds", seeds_line(found)))
    said.append(("Memory", memory_line(found["memory"])))
    said += [("Note", note) for note in found["notes"]]
    said.append(
        ("Advice", f"begin with preset {found['preset']}" + ", and" * bool(found["changes"]))
    )
    said += [
        ("", f"{key} = {value}: {found['reasons'][key]}.")
        for key, value in found["changes"].items()
    ]
    if "expected" in found:
        said.append(("Expect", expected_line(found)))
    said.append(("Try", found["command"]))
    return [f"{f'{name}:' if name else '':10s}{text}" for name, text in said]


def world_line(found: dict) -> str:
    """The world and its speed."""
    if "random" not in found:
        return f"{found['env']}, not played."
    random = found["random"]
    speed = f"{random['steps_per_second']:,} steps a second"
    return f"{found['env']}, played at random for {random['steps']:,} steps ({speed})."


def episodes_line(found: dict) -> str:
    """The random baseline."""
    random, limit = found["random"], found["time_limit"]
    limited = f"the time limit is {limit:,} steps" if limit else "there is no time limit"
    if not random["episodes"]:
        return f"none ended; {limited}."
    ended = f"{random['terminal_share']:.0%} ended for good"
    score = f"{number(random['return_mean'])} (spread {number(random['return_std'])})"
    length = f"{number(random['length_mean'])} (spread {number(random['length_std'])})"
    count = random["episodes"]
    return f"{count:,} at random, return {score}, length {length}; {ended}; {limited}."


def reward_line(found: dict) -> str:
    """How often there is a reward, and how large it is."""
    reward = found["reward"]
    if not reward["nonzero_share"]:
        return "always 0 in random play."
    if not reward["varied_share"]:
        return f"{number(reward['mean'])} in every step, so only the length of an episode counts."
    often = f"other than 0 in {number(100 * reward['nonzero_share'])}% of all steps"
    size = f"on average {number(reward['mean'])}, and {number(reward['largest'])} at most in size"
    return f"{often}, {size}."


def inputs_line(inputs: dict) -> str:
    """The spread of what is observed."""
    text = []
    if numbers := inputs["numbers"]:
        spreads = [about["sd"] for about in numbers.values()]
        low = min(about["min"] for about in numbers.values())
        high = max(about["max"] for about in numbers.values())
        text.append(
            f"after symlog numbers lie from {number(low)} to {number(high)}, with a spread from "
            f"{number(min(spreads))} to {number(max(spreads))}"
        )
    text += [f"{share:.0%} of {name} never changed" for name, share in inputs["still"].items()]
    return "; ".join(text) + "."


def seeds_line(found: dict) -> str:
    """Whether runs can be repeated and resumed."""
    if found["resumable"]:
        return "the same seed gives the same rows, so runs can be resumed exactly."
    if found["repeats"]:
        return "the same seed gives the same rows, but a resumed run begins new episodes."
    return "the same seed gives other rows, so runs cannot be repeated."


def memory_line(memory: dict) -> str:
    """What replay takes."""
    run = f", and this run takes {memory['run_bytes'] / 1e6:.0f} MB" if memory["run_bytes"] else ""
    return f"a row takes {memory['row_bytes']:,} bytes, so {memory['rows']:,} fit{run}."


def expected_line(found: dict) -> str:
    """How far the suggested run gets."""
    about = found["expected"]
    if not about["updates_per_second"]:
        return "this world is too slow for its updates to be timed."
    return (
        f"about {about['steps']:,} steps and {about['updates']:,} updates in "
        f"{about['minutes']:g} minutes ({about['updates_per_second']} updates a second on "
        f"{found['device']}, threads: {found['threads']}; the world takes "
        f"{about['world_share']:.0%} of the time)."
    )
