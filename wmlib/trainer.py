"""Collect, learn, evaluate: the loop around the agent.

act       o_0 -> a_0    o_1 -> a_1    o_2 -> a_2   ...     one row per environment and step
replay    [o_0 r_0 a_0] [o_1 r_1 a_1] ...                  r_t arrives with o_t
learn     `ratio` replayed rows for every row collected: updates owed = steps * ratio / (B * T)
"""

import contextlib
import dataclasses
import gc
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor
from tqdm.auto import tqdm

from wmlib.agent import Dreamer, Memory
from wmlib.checkpoint import (
    checkpoints,
    describe_agent,
    forget_after,
    latest,
    load_weights,
    lock_run,
    open_run,
    part_names,
    read_checkpoint,
    run_folder,
    write_checkpoint,
    write_metrics,
)
from wmlib.distributed import count, learn_together, own_seed, rank, together, total
from wmlib.envs.rewind import steps_back
from wmlib.envs.rows import Row, RowEnv
from wmlib.errors import BadInput
from wmlib.play import endings, evaluate
from wmlib.replay import Replay
from wmlib.rssm import State
from wmlib.runtime import STDERR, handling, interruptible, say, seed_everything
from wmlib.spaces import each, parts, random_actions

__all__ = ["Result", "SharedTrainer", "Trainer", "train"]

MANY = 1000  # steps of environments that take a noticeable time
ROWS = "replay-"  # parts of a checkpoint that hold a block of replay; its number follows
WIDE = 1000  # numbers of a vector that may be a picture
SPARING = 20  # times as long as a save took, at least, until the next one


@dataclasses.dataclass(frozen=True)
class Result:
    """What a training or evaluation run came to; `json()` is the command line's last word."""

    env: str
    preset: str
    seed: int
    device: str
    steps: int
    updates: int
    seconds: float
    eval_return_mean: float | None  # None: nothing was evaluated
    eval_return_std: float | None
    eval_episodes: int
    run: str
    interrupted: bool = False

    def json(self) -> str:
        """One line of JSON; `interrupted` is in it only if it is true."""
        about = dataclasses.asdict(self)
        return json.dumps({k: v for k, v in about.items() if k != "interrupted" or v})


class Trainer:
    """Everything of a training run that must survive an interruption."""

    def __init__(self, agent: Dreamer, env: RowEnv, seed: int = 0, out: str | Path | None = None):
        agent.check_spaces(env.single_observation_space, env.single_action_space)
        self.agent = agent
        self.env = env
        self.seed = seed
        self.config = c = agent.config
        self.out = Path(out) if out is not None else None
        self.eval_env: RowEnv | None = None  # None: copies of `env` are made for each evaluation
        self.replay = Replay(
            env.single_observation_space,
            env.single_action_space,
            env.num_envs,
            c.batch_length,
            capacity_bytes=c.replay_bytes,
            capacity_rows=c.replay_rows,
            latents=(c.deter, c.stoch) if c.stored_latents else None,
            seed=seed,
        )
        self.rng = np.random.default_rng(seed)  # random play
        self.steps = self.updates = self.episodes = 0
        self.credit = 0.0  # updates owed
        self.seconds = 0.0
        self.evaluated = 0  # steps at the last evaluation
        self.stopped: Sequence[int] = ()  # signals to stop
        self.logging = True  # no line of metrics has failed yet
        self.stored: Path | None = None  # the checkpoint that holds all unchanged blocks of replay
        self.row = env.reset(seed=seed)
        self.memory = agent.initial(env.num_envs)
        self.running = np.zeros(env.num_envs)  # return of the episode under way
        self.scores: deque[float] = deque(maxlen=20)
        self.recent: list[dict[str, Tensor]] = []  # metrics since the last log line

    # ------------------------------------------------------------ collect

    def collect(self) -> None:
        """One step of every environment: act, step, store the row with its action."""
        c, row = self.config, self.row
        action, self.memory = self.agent.act(row.obs, row.is_first, self.memory)
        if self.steps < c.random_steps:
            action = random_actions(self.env.single_action_space, self.env.num_envs, self.rng)
            self.memory = self.agent.taken(self.memory, action)
        latents = (None, None)
        if c.stored_latents:
            state = self.memory.state
            latents = (state.h.cpu().numpy(), state.z.argmax(-1).cpu().numpy())
        following = self.env.step(action)  # first: if it fails, nothing has changed here
        self.replay.add(row, action, *latents)
        acted = int((~row.is_last).sum())
        if self.ready:
            self.credit += acted * c.ratio / (c.batch_size * c.batch_length)
        self.steps += acted
        self.row = following
        for envs, reward, last in endings(self.row):
            self.running[envs] += reward
            for i in envs[last]:
                self.scores.append(float(self.running[i]))
                self.running[i] = 0.0
                self.episodes += 1
        self.running[self.row.is_first] = 0.0  # also of an episode that a resumed run abandoned

    @property
    def ready(self) -> bool:
        """Whether there is enough in replay to learn from."""
        enough = self.replay.starts >= self.config.batch_size * self.config.batch_length
        return enough and self.steps >= self.config.random_steps

    # ------------------------------------------------------------ learn

    def learn(self, behaviour: bool = True) -> None:
        """One gradient step on a fresh sample of windows."""
        sample = self.replay.sample(self.config.batch_size)
        batch, start = self.agent.tensors(sample)
        try:
            metrics, state = self.agent.update(batch, start, behaviour)
        except FloatingPointError as error:
            good = f"; the last good checkpoint is {latest(self.out)}" if self.saved else ""  # pyright: ignore[reportArgumentType]
            message = f"Training stopped after {self.steps} steps: {error}{good}."
            raise FloatingPointError(message) from None
        if self.config.stored_latents:
            deter, stoch = state.h.cpu().numpy(), state.z.argmax(-1).cpu().numpy()
            self.replay.refresh(sample["index"], deter, stoch)
        self.updates += 1
        self.recent.append(metrics)

    @property
    def saved(self) -> bool:
        """Whether this run has a checkpoint."""
        return self.out is not None and bool(checkpoints(self.out))

    def tick(self) -> None:
        """One update if one is owed, else one step of the environments."""
        if self.updates < self.config.model_updates and self.ready:
            self.learn(behaviour=False)
        elif self.credit >= 1:
            self.credit -= 1
            self.learn()
        else:
            self.collect()

    def run(
        self,
        steps: int | None = None,
        minutes: float | None = None,
        eval_every: int = 0,
        eval_episodes: int = 20,
        save_seconds: float = 60.0,
        progress: bool = True,
        on_log: Callable[["Trainer", dict[str, float]], None] | None = None,
    ) -> bool:
        """Train until `steps` environment steps in all, or for `minutes` from now.

        Ctrl-C (or the notebook's stop button), SIGTERM or SIGHUP end it after the update under way,
        with everything saved. Evaluates every `eval_every` steps (0: never). `on_log(trainer,
        line)` gets every line of metrics, by name, as it is written. Returns whether it was
        interrupted.

        Raises:
            BadInput: another process uses the run's directory, or it cannot be written; or an
                environment failed, and the run was saved as it was before.
            OSError: a checkpoint could not be written, for instance because the disk is full.
            FloatingPointError: a loss became NaN or infinite.
            KeyboardInterrupt: Ctrl-C came a second time; what was not saved is lost.
        """
        alone = contextlib.nullcontext() if self.out is None else lock_run(self.out)
        with alone, interruptible() as stopped, self._saving_first():
            self.stopped = stopped
            with self._bar(steps, progress) as bar:
                now = began = logged = saved = time.monotonic()
                pause = save_seconds
                base = self.seconds
                late = False
                while True:
                    wishes = bool(stopped), late, now - logged > 2.0, now - saved > pause
                    stop, late, log, save = self.agree(*wishes)
                    if stop or late:
                        break
                    evaluated = self._due(eval_every)
                    if evaluated or log:
                        try:
                            score = self.eval_return(eval_episodes) if evaluated else None
                        except KeyboardInterrupt:  # nothing is half done
                            late = True
                            continue
                        self._note(bar, on_log, score)
                        logged = time.monotonic()
                    if save:
                        self.save()
                        saved = time.monotonic()
                        pause = max(save_seconds, SPARING * (saved - now))
                    if steps is not None and self.steps >= steps and self.credit < 1:
                        break
                    self.tick()
                    now = time.monotonic()
                    self.seconds = base + now - began
                    late = minutes is not None and now - began >= 60 * minutes
                self._note(bar, on_log)
            if stopped or stop:
                say(f"stopped after {self.steps} steps" + (", saving ..." if self.out else ""))
            with handling(lambda number, _: stopped.append(number)):  # however often
                self.save()
        self.stopped = ()
        return bool(stopped) or stop

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """What is to be done now, if this is wished for; see `SharedTrainer`."""
        return wishes

    @contextlib.contextmanager
    def _saving_first(self) -> Iterator[None]:
        """If an environment fails in here, save the run before saying so."""
        try:
            yield
        except BadInput as error:
            if self.out is None:
                raise
            with handling(lambda *_: None):
                self.save()
            why = str(error).rstrip(".")
            sentence = f"{why}; the run is saved at {self.steps} steps and can be resumed."
            raise BadInput(sentence) from error

    def _due(self, every: int) -> bool:
        """Whether a multiple of `every` steps was reached since the last evaluation."""
        return every > 0 and self.steps // every > self.evaluated // every and self.credit < 1

    def eval_return(self, episodes: int) -> float:
        """Mean return over fresh episodes, in environments of their own.

        Raises:
            KeyboardInterrupt: a signal to stop has come.
        """
        test = self.eval_env or self.env.copies(min(episodes, 100), 10_000)
        with contextlib.nullcontext() if self.eval_env else contextlib.closing(test):
            returns = evaluate(self.agent, test, episodes, stopped=self.stopped)
        del test
        gc.collect()  # wrappers refer to themselves, and hold the pictures of closed environments
        return float(returns.mean())

    # ------------------------------------------------------------ what one sees

    def log(self, eval_return: float | None = None) -> dict[str, float]:
        """Average the metrics since the last call and append them to metrics.csv."""
        line: dict[str, float] = {
            "steps": self.steps,
            "updates": self.updates,
            "seconds": round(self.seconds, 2),
            "episodes": self.episodes,
        }
        if self.scores:
            line["score"] = float(np.mean(self.scores))
        if eval_return is not None:
            line["eval_return"] = eval_return
            self.evaluated = self.steps
        for name in dict.fromkeys(name for metrics in self.recent for name in metrics):
            values = [metrics[name] for metrics in self.recent if name in metrics]
            line[name] = float(torch.stack([v.float() for v in values]).mean())
        self.recent.clear()
        if self.out is not None and rank() == 0:
            path = self.out / "metrics.csv"
            try:
                write_metrics(path, [line])
            except OSError as error:
                if self.logging:
                    say(f"cannot write {path} ({error.strerror}); training goes on without it.")
                self.logging = False
        return line

    def _note(
        self,
        bar: tqdm,
        on_log: Callable[["Trainer", dict[str, float]], None] | None,
        score: float | None = None,
    ) -> None:
        """Write a line of metrics, and show it."""
        line = self.log(score)
        self._show(bar, line)
        if on_log is not None and rank() == 0:
            on_log(self, line)

    def _bar(self, steps: int | None, progress: bool) -> tqdm:
        return tqdm(
            total=steps,
            initial=self.steps,
            unit="step",
            disable=not progress or rank() > 0,
            file=STDERR,
            dynamic_ncols=True,
            smoothing=0.05,
            mininterval=0,
            miniters=0,  # drawn whenever it is updated, also if there was no step
        )

    def _show(self, bar: tqdm, line: dict[str, float]) -> None:
        names = ("score", "eval_return", "rec", "kl", "value", "entropy")
        shown = {name: f"{line[name]:.3g}" for name in names if name in line}
        if self.scores:  # few episodes that ended early say little of all
            shown["score"] += f" of {len(self.scores)} episodes"
        bar.set_description_str(self._doing(), refresh=False)
        shown["updates/s"] = f"{self.updates / max(self.seconds, 1e-9):.1f}"
        bar.set_postfix(shown, refresh=False)
        bar.update(self.steps - bar.n)

    def _doing(self) -> str:
        """What happens before the agent learns to act, in words."""
        if self.steps < self.config.random_steps:
            return "random play"
        if self.updates < self.config.model_updates:
            return f"world model {self.updates}/{self.config.model_updates}"
        return ""

    # ------------------------------------------------------------ save and resume

    def state_dict(self, rows: bool = True) -> dict:
        """All that the next step depends on, apart from the agent's weights.

        With rows=False also apart from the blocks of replay.
        """
        row = {f.name: getattr(self.row, f.name) for f in dataclasses.fields(self.row)}
        del row["final"]  # already in replay
        rng = {"numpy": self.rng.bit_generator.state, "torch": torch.get_rng_state()}
        if self.agent.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state()
        return {
            "steps": self.steps,
            "updates": self.updates,
            "episodes": self.episodes,
            "credit": self.credit,
            "seconds": self.seconds,
            "evaluated": self.evaluated,
            "scores": list(self.scores),
            "running": self.running,
            "rng": rng,
            "row": row,
            "memory": {**self.memory.state._asdict(), "action": self.memory.action},
            "optimizer": self.agent.optimizer.state_dict()["state"],
            "replay": self.replay.state_dict(rows),
            "env": self.env.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` gave; the next tick is then the one that would have come.

        Raises:
            BadInput: it is of another trainer.
        """
        kinds: dict[str, Any] = {
            name: int for name in ("steps", "updates", "episodes", "evaluated")
        }
        kinds |= {"credit": int | float, "seconds": int | float}
        state = {"evaluated": state["steps"]} | state  # older runs have none
        for name, kind in kinds.items():
            if not (isinstance(state[name], kind) and 0 <= state[name] < float("inf")):
                raise BadInput(f"'{name}' is {state[name]!r}; it must be a number from 0.")
            setattr(self, name, state[name])
        self.scores = deque(map(float, state["scores"]), maxlen=20)
        self.running = _like(self.running, state["running"].numpy(), "running")
        self.rng.bit_generator.state = state["rng"]["numpy"]
        torch.set_rng_state(state["rng"]["torch"])
        if "cuda" in state["rng"] and self.agent.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng"]["cuda"])
        row = _numpy(state["row"])
        for name, value in row.items():
            row[name] = each(partial(_like, name=name), getattr(self.row, name), value)
        self.row = Row(**row)
        mine = {**self.memory.state._asdict(), "action": self.memory.action}
        memory = {k: _like(v, state["memory"][k], k).to(v.device) for k, v in mine.items()}
        self.memory = Memory(State(memory["h"], memory["z"]), memory["action"])
        optimizer = self.agent.optimizer.state_dict()  # its settings are those of the config
        moments = {int(number): moment for number, moment in state["optimizer"].items()}
        params = [p for group in self.agent.optimizer.param_groups for p in group["params"]]
        for number, moment in moments.items():
            for name in ("mean", "square"):
                _like(params[number], moment[name], f"optimizer/{number}/{name}")
        self.agent.optimizer.load_state_dict(optimizer | {"state": moments})
        self.replay.load_state_dict(_numpy(state["replay"]))
        worlds = _numpy(state["env"])
        if (count := steps_back(worlds["worlds"])) > MANY:
            say(f"{count:,} steps of the running episodes are repeated ...")
        if lost := self.env.load_state_dict(worlds):
            say(
                f"{lost} of {self.env.num_envs} running episodes were given up, because "
                f"{self.env.spec['id']} did not come back to where they were; fresh ones follow."
            )

    def save(self) -> Path | None:
        """Write a checkpoint; None if the run has no directory."""
        if self.out is None:
            return None
        about = describe_agent(self.agent, self.env.spec, self.seed)
        about |= {"steps": self.steps, "updates": self.updates}
        about |= {"processes": count()} if count() > 1 else {}
        parts = {"agent": (self.agent.state_dict(), about)} if rank() == 0 else {}
        parts[own("training")] = (self.state_dict(rows=False), {})
        links = {}
        for number in range(self.replay.blocks):
            name = f"{own(ROWS)}{number:05d}"
            if self.stored and self.stored.exists() and number not in self.replay.changed:
                links[name] = self.stored
            else:
                parts[name] = (self.replay.block(number), {})
        self.stored = write_checkpoint(self.out, self.steps, parts, links)
        self.replay.changed.clear()
        return self.stored

    def resume(self) -> None:
        """Continue from the newest checkpoint of `out`.

        Raises:
            BadInput: no directory; in use, cannot be written; no checkpoint there, or a damaged
                one, or of another environment or architecture.
        """
        if self.out is None:
            raise BadInput("This trainer has no directory to resume from: give it `out`.")
        newest = latest(self.out)
        with lock_run(self.out):
            weights, about = read_checkpoint(newest, "agent")[0]
            if (processes := about.get("processes", 1)) != count():
                raise BadInput(
                    f"{self.out} is a run of {processes} processes, not of {count()}: resume it "
                    f"with torchrun --nproc-per-node {processes}."
                )
            state, _ = read_checkpoint(newest, own("training"))[0]
            if about.get("env") != self.env.spec:
                found = f"{about.get('env')}, not on {self.env.spec}"
                raise BadInput(f"{self.out} was trained on {found}.")
            try:
                if "updates" in state["optimizer"]:
                    raise BadInput("it was written by wmlib 0.1.0 and cannot be resumed any more")
                load_weights(self.agent, weights)
                self.load_state_dict(state)
                self._load_blocks(newest, whole="reward" in state["replay"].get("data", {}))
            except (BadInput, *UNUSABLE) as error:
                why = " ".join(str(error).split()).rstrip(".")
                name = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
                raise BadInput(f"Cannot resume from {newest} ({name}{why}).") from error
            if rank():
                return
            try:
                forget_after(self.out / "metrics.csv", self.steps)
            except OSError as error:
                say(f"cannot write {self.out / 'metrics.csv'} ({error.strerror}).")

    def _load_blocks(self, folder: Path, whole: bool) -> None:
        """Restore the rows of replay that `save` put into parts of their own.

        `whole`: they are there already, as in checkpoints from before there were such parts.
        """
        names = [name for name in part_names(folder) if name.startswith(own(ROWS))]
        wanted = [f"{own(ROWS)}{number:05d}" for number in range(self.replay.blocks)]
        if not names and whole:
            return
        if names != wanted:
            raise BadInput(f"it has {len(names)} blocks of replay instead of {len(wanted)}")
        for number, name in enumerate(names):
            rows, _ = read_checkpoint(folder, name)[0]
            self.replay.load_block(number, _numpy(rows))
        self.stored = folder
        self.replay.changed.clear()


class SharedTrainer(Trainer):
    """One of several trainers of the same agent, each in a process of its own.

    Worlds, replay and episodes are its own; steps, updates and the decisions of `run` are those of
    all. Each samples its share of every batch, and one of them speaks, evaluates and logs.
    """

    def __init__(self, agent: Dreamer, env: RowEnv, seed: int = 0, out: str | Path | None = None):
        share, rest = divmod(agent.config.batch_size, count())
        if rest:
            raise BadInput(
                f"batch_size is {agent.config.batch_size}; {count()} processes need a multiple of "
                f"{count()}."
            )
        super().__init__(agent, env, own_seed(seed), out)
        self.config = agent.config.replace(batch_size=share)
        self.enough = False  # every replay holds a batch of windows
        self.agreed = (0, 0, 0.0)  # steps, episodes and credit of all
        self.failure: BadInput | None = None
        learn_together(agent)

    @property
    def ready(self) -> bool:
        """Whether there is enough in every replay to learn from."""
        return self.enough and self.steps >= self.config.random_steps

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """Count what all have collected since the last time; what one of them wishes, all do.

        Raises:
            BadInput: an environment failed, here or elsewhere.
        """
        steps, episodes, credit = self.agreed
        short = self.replay.starts < self.config.batch_size * self.config.batch_length
        found = (self.steps - steps, self.episodes - episodes, self.credit - credit)
        more_steps, more_episodes, more_credit, short, failed, *wished = total(
            [*found, short, self.failure is not None, *wishes]
        )
        self.steps, self.episodes = steps + round(more_steps), episodes + round(more_episodes)
        self.credit = credit + more_credit / count()
        self.agreed = self.steps, self.episodes, self.credit
        self.enough = not short
        if failed:
            together(self._fail)
        return tuple(map(bool, wished))

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def tick(self) -> None:
        """As ever, but if an environment fails, the others are told first."""
        try:
            super().tick()
        except BadInput as error:
            self.failure = error

    def eval_return(self, episodes: int) -> float:
        """Mean return over fresh episodes; NaN where they are not played."""
        try:
            return super().eval_return(episodes) if rank() == 0 else float("nan")
        except BadInput as error:
            self.failure = error
            return float("nan")

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        self.agreed = self.steps, self.episodes, self.credit

    def resume(self) -> None:
        """Continue from the newest checkpoint of `out`, which must be of as many processes."""
        together(super().resume)


def own(part: str) -> str:
    """What a part of a checkpoint is called for this rank; of rank 0 as in a single process."""
    return f"rank{rank()}-{part}" if rank() else part


# what comes of a checkpoint that is intact but was not written by a trainer
UNUSABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
UNUSABLE += (AssertionError, MemoryError)


def _like(mine: Any, found: Any, name: str) -> Any:
    """Return the loaded array or tensor if it has the shape and, if an array, the type of ours."""
    wanted, given = (
        (tuple(x.shape), x.dtype if isinstance(x, np.ndarray) else None) for x in (mine, found)
    )
    if wanted != given:
        raise BadInput(f"'{name}' has shape and type {given} instead of {wanted}")
    return found


def _numpy(tree: Any) -> Any:
    """Tensors of a loaded tree back to arrays."""
    if isinstance(tree, dict):
        return {key: _numpy(value) for key, value in tree.items()}
    return tree.numpy() if isinstance(tree, Tensor) else tree


def summary_writer(out: str | Path | None) -> Callable[..., Any]:
    """What makes TensorBoard's writer for a run's directory.

    Raises:
        BadInput: there is no directory, or TensorBoard is not installed.
    """
    if out is None:
        raise BadInput("tensorboard needs the run's directory in `out`.")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadInput(
            "tensorboard needs a package that is not installed: pip install tensorboard."
        ) from error
    return partial(SummaryWriter, str(Path(out) / "tensorboard"))


def scalars(
    writer: Any, on_log: Callable[[Trainer, dict[str, float]], None] | None
) -> Callable[[Trainer, dict[str, float]], None]:
    """An `on_log` that writes every number to TensorBoard over the steps, then calls another."""

    def note(trainer: Trainer, line: dict[str, float]) -> None:
        for name, value in line.items():
            if name != "steps":
                writer.add_scalar(name, value, trainer.steps)
        writer.flush()
        if on_log is not None:
            on_log(trainer, line)

    return note


def train(
    agent: Dreamer,
    env: RowEnv,
    steps: int | None = None,
    out: str | Path | None = None,
    minutes: float | None = None,
    seed: int = 0,
    resume: bool = False,
    eval_every: int = 0,
    eval_episodes: int = 20,
    curve_episodes: int = 20,
    progress: bool = True,
    on_log: Callable[[Trainer, dict[str, float]], None] | None = None,
    tensorboard: bool = False,
    eval_env: RowEnv | None = None,
    save_seconds: float = 60.0,
) -> Result:
    """Train an agent in an environment, in place.

    Stops after `steps` environment steps in all or `minutes` from now, whichever comes first. With
    `out` everything is written to that directory while training; with resume=True the run there is
    continued exactly where it stopped. `eval_episodes` are played at the end (0: none; none either
    if it was interrupted), `curve_episodes` every `eval_every` steps on the way (0:
    never), in copies of `env` or in `eval_env`, which an environment needs that cannot be copied.
    `on_log(trainer, line)` is called with every line of metrics, a dict by name, as it is written:
    every two seconds, at evaluations, at the end. `tensorboard` writes the same numbers to
    out/tensorboard; it needs that package. A checkpoint is written every `save_seconds`, but never
    so often that saving takes more than a twentieth of the time. Ctrl-C, SIGTERM and SIGHUP end
    the training with everything saved.

    In processes that have joined (`wmlib.distributed.joined`) the agent is trained by all of them,
    each with an `env` of its own, and `steps` counts the steps of all.

    Raises:
        BadInput: neither steps nor minutes, a number out of range, spaces that do not fit, a
            directory in use or damaged, or no TensorBoard.
        OSError: a checkpoint could not be written, for instance because the disk is full.
        FloatingPointError: a loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C came a second time.
    """
    if steps is None and minutes is None:
        raise BadInput("Say how long to train: steps, minutes, or both.")
    for name, number, low in (
        ("steps", steps, 0),
        ("minutes", minutes, 0),
        ("eval_every", eval_every, 0),
        ("eval_episodes", eval_episodes, 0),
        ("curve_episodes", curve_episodes, 1),
        ("save_seconds", save_seconds, 0),
    ):
        if number is not None and not number >= low:
            raise BadInput(f"{name} is {number}; it must be at least {low}.")
    if resume and out is None:
        raise BadInput("resume needs the run's directory in `out`.")
    writer = summary_writer(out) if tensorboard and rank() == 0 else None
    seed_everything(own_seed(seed))
    for part in parts(agent.obs_space).values():
        if isinstance(part, Box) and len(part.shape) == 1 and part.shape[0] > WIDE:
            say(
                f"{env.spec['id']} shows a vector of {part.shape[0]:,} numbers; if there is a "
                "picture in it, show it as one, not flattened."
            )
    test, asked = eval_env, (eval_episodes or eval_every) and rank() == 0
    if test is None and asked:  # now: better to fail before the training
        test = env.copies(min(max(eval_episodes, 1), 100), 10_000)
    with contextlib.nullcontext() if test is None or test is eval_env else contextlib.closing(test):
        if out is not None and resume:
            out = run_folder(out)
            latest(out)  # before anything is written there
        trainer = (SharedTrainer if count() > 1 else Trainer)(agent, env, seed, out)
        trainer.eval_env = eval_env
        with contextlib.nullcontext() if out is None else lock_run(out):
            if resume:
                trainer.resume()
            elif out is not None:
                about = describe_agent(agent, env.spec, seed)
                together(partial(open_run, out, about), alone=True)
            if resume and steps is not None and trainer.steps >= steps:
                say(f"{out} is already at {trainer.steps} steps; --steps {steps} counts from 0.")
            if writer is not None:
                on_log = scalars(writer(purge_step=trainer.steps + 1), on_log)
            interrupted = trainer.run(
                steps, minutes, eval_every, curve_episodes, save_seconds, progress, on_log
            )
        if not trainer.updates and not interrupted:
            c = agent.config
            say(
                f"Nothing was learnt in {trainer.steps} steps: learning begins after "
                f"{c.random_steps} random steps (--random-steps), with enough rows for a batch of "
                f"{c.batch_size} x {c.batch_length} (--batch-size, --batch-length)."
            )
        returns = np.zeros(0)
        if test is not None and eval_episodes and not interrupted and rank() == 0:
            try:
                returns = evaluate(agent, test, eval_episodes, progress=progress)
            except KeyboardInterrupt:  # what was trained is saved
                interrupted = True
    return Result(
        env=env.spec["id"],
        preset=agent.config.name,
        seed=seed,
        device=str(agent.device),
        steps=trainer.steps,
        updates=trainer.updates,
        seconds=round(trainer.seconds, 2),
        eval_return_mean=round(float(returns.mean()), 4) if len(returns) else None,
        eval_return_std=round(float(returns.std()), 4) if len(returns) else None,
        eval_episodes=len(returns),
        run=str(out or ""),
        interrupted=interrupted,
    )
