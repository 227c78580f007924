"""Command line: python -m wmlib check | train | evaluate | dream | bench | experiment.

Results go to stdout as one line of JSON, everything else to stderr. Exit codes: 0 done, 2 bad
input, 1 failure.
"""

import contextlib
import io
import json
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from wmlib.agent import Dreamer
from wmlib.checkpoint import latest, load_agent, read_checkpoint
from wmlib.config import Config, preset
from wmlib.envs.make import make_env
from wmlib.errors import BadInput
from wmlib.play import evaluate
from wmlib.runtime import pick_device, seed_everything, set_threads
from wmlib.trainer import Result, train

POSITIONAL = tyro.conf.Positional


@dataclass
class Train:
    """Train an agent in any Gymnasium environment. Every key of the config is an option too."""

    env: POSITIONAL[str]
    """Gymnasium id, for instance wmlib/Curtain-v0, CartPole-v1 or Pendulum-v1."""
    preset: str = "tiny"
    """tiny (for a CPU), curtain and cartpole (for those worlds), small, size1m ... size400m."""
    pixels: bool = False
    """Learn from rendered frames instead of the environment's own observation."""
    size: int = 32
    """Side of the rendered frames in pixels."""
    env_args: tuple[str, ...] = ()
    """Arguments of the environment, as name=value."""
    seed: int = 0
    steps: int | None = None
    """Environment steps in all (default: 24000 unless --minutes is given)."""
    minutes: float | None = None
    """Stop after this many minutes."""
    eval_every: int = 0
    """Evaluate every so many steps (0: only at the end)."""
    eval_episodes: int = 20
    device: str = "auto"
    out: str | None = None
    """Run directory (default: a new one under runs/)."""
    resume: str | None = None
    """Continue the run in this directory, with its own settings."""
    config: tyro.conf.OmitArgPrefixes[Config] = field(default_factory=Config)


@dataclass
class Evaluate:
    """Play a trained agent and report its returns."""

    run: POSITIONAL[str]
    """Run directory, checkpoint or agent file."""
    episodes: int = 20
    mode: bool = False
    """Take the most likely action instead of drawing one."""
    seed: int = 10_000
    device: str = "auto"


@dataclass
class Dream:
    """Write a GIF: reality above, the agent's dream of it below."""

    run: POSITIONAL[str]
    """Run directory, checkpoint or agent file."""
    out: str = "dream.gif"
    context: int = 3
    """Real frames seen before the eyes close."""
    horizon: int = 45
    seed: int = 0


@dataclass
class Experiment:
    """Run a named experiment and store its results; what is already stored is not run again."""

    name: POSITIONAL[str]
    out: str = "notebooks/results"
    threads: int | None = None
    """Torch threads (default: all cores, at most 4)."""
    seeds: tuple[int, ...] = ()
    """Only these seeds."""
    jobs: int = 1
    """Runs at a time, one thread each (ablations only)."""
    plot: str | None = None
    """Also draw the learning curves to this PNG."""


@dataclass
class Check:
    """Say whether this machine can run the course, and how long the notebooks will take."""

    seconds: float = 5.0
    """How long to train."""


@dataclass
class Bench:
    """Time full updates, say where the time goes, and draw how it grows with the sizes."""

    cases: tuple[str, ...] = ("vector", "image", "curtain", "cartpole")
    threads: int | None = None
    """Torch threads (default: all cores, at most 4)."""
    seconds: float = 10.0
    """How long to time each case."""
    plot: str | None = "imgs/bench.png"
    """Draw to this PNG (None: do not)."""


COMMANDS = {"check": Check, "train": Train, "evaluate": Evaluate, "dream": Dream, "bench": Bench}
COMMANDS["experiment"] = Experiment


def run_train(args: Train) -> str:
    """Train; returns the line of JSON."""
    if args.resume and (args.out and Path(args.out) != Path(args.resume)):
        raise BadInput(f"--resume {args.resume} writes there; drop --out {args.out}.")
    device = pick_device(args.device)
    seed_everything(args.seed)
    spec = {"id": args.env, "num_envs": args.config.num_envs, "pixels": args.pixels}
    spec |= {"size": args.size, "kwargs": _env_args(args.env_args)}
    env = make_env(**spec, seed=args.seed)
    agent = Dreamer(env.single_observation_space, env.single_action_space, args.config)
    steps = 24_000 if args.steps is None and args.minutes is None else args.steps
    result = train(
        agent.to(device),
        env,
        steps,
        out=args.resume or args.out or _new_run(args.env, args.preset, args.seed),
        minutes=args.minutes,
        seed=args.seed,
        resume=bool(args.resume),
        eval_every=args.eval_every,
        eval_episodes=args.eval_episodes,
    )
    return result.json()


def _env_args(pairs: tuple[str, ...]) -> dict[str, object]:
    """Arguments of the environment from "name=value", values as JSON or else as words."""
    values: dict[str, object] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise BadInput(f"--env-args takes name=value, not '{pair}'.")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def _new_run(env: str, preset_name: str, seed: int) -> str:
    """First unused directory of this name under runs/."""
    stem = f"runs/{env.split('/')[-1]}-{preset_name}-seed{seed}"
    path = stem
    number = 1
    while Path(path).exists():
        number += 1
        path = f"{stem}-{number}"
    return path


def run_evaluate(args: Evaluate) -> str:
    """Evaluate; returns the line of JSON."""
    if args.episodes < 1:
        raise BadInput(f"--episodes is {args.episodes}; it must be at least 1.")
    agent, about = load_agent(args.run, args.device)
    count = min(args.episodes, 100)
    env = make_env(**{**about["env"], "num_envs": count}, seed=args.seed)
    began = time.monotonic()
    returns = evaluate(agent, env, args.episodes, args.mode, args.seed)
    return Result(
        env=about["env"]["id"],
        preset=agent.config.name,
        seed=args.seed,
        device=str(agent.device),
        steps=about.get("steps", 0),
        updates=about.get("updates", 0),
        seconds=round(time.monotonic() - began, 2),
        eval_return_mean=round(float(returns.mean()), 4),
        eval_return_std=round(float(returns.std()), 4),
        eval_episodes=len(returns),
        run=args.run,
    ).json()


def run_dream(args: Dream) -> str:
    """Write the GIF; returns a line of JSON."""
    from wmlib.figures import write_dream

    agent, about = load_agent(args.run, "cpu")
    frames = write_dream(
        agent,
        about["env"],
        args.out,
        context=args.context,
        horizon=args.horizon,
        seed=args.seed,
    )
    return json.dumps({"run": args.run, "out": args.out, "frames": frames})


def writable_picture(name: str | None) -> Path | None:
    """Where to write a picture, if asked for; refused before anything is computed."""
    picture = Path(name) if name else None
    if picture and not picture.parent.is_dir():
        raise BadInput(f"Cannot write {picture}: there is no directory {picture.parent}.")
    return picture


def run_experiment(args: Experiment) -> str:
    """Run it; returns a line of JSON."""
    from wmlib import experiments

    picture = writable_picture(args.plot)
    if picture:
        experiments.drawing(args.name)  # refused before anything runs
    lines = experiments.run(args.name, Path(args.out), args.threads, args.seeds, args.jobs)
    if picture:
        experiments.drawing(args.name)(Path(args.out)).savefig(picture)
    return json.dumps(lines)


def run_check(args: Check) -> str:
    """Examine this machine; returns a line of JSON, after a report on stderr."""
    from wmlib import machine

    if args.seconds <= 0:
        raise BadInput(f"--seconds is {args.seconds}; it must be positive.")
    found = machine.examine(args.seconds)
    print(*machine.lines(found), sep="\n", file=sys.stderr)
    return json.dumps(found)


def run_bench(args: Bench) -> str:
    """Measure; returns a line of JSON, after a table on stderr."""
    from wmlib.experiments.bench import bench, draw, table

    if args.seconds <= 0:
        raise BadInput(f"--seconds is {args.seconds}; it must be positive.")
    picture = writable_picture(args.plot)
    result = bench(args.cases, args.threads, args.seconds)
    print(table(result), file=sys.stderr)
    if picture:
        draw(result).savefig(picture)
    return json.dumps(result)


def parse(argv: list[str]) -> object:
    """Arguments -> one of the command dataclasses; BadInput for anything tyro does not accept."""
    if not argv or argv[0] not in (*COMMANDS, "-h", "--help"):
        given = f"'{argv[0]}'" if argv else "nothing"
        raise BadInput(f"The command is {given}; allowed are {', '.join(COMMANDS)} (try --help).")
    if argv[0] not in COMMANDS:
        print(__doc__, "\nTry: python -m wmlib train --help", file=sys.stderr)
        raise SystemExit(0)
    kind = COMMANDS[argv[0]]
    rest = argv[1:]
    wants_help = "-h" in rest or "--help" in rest
    default = _train_default(rest) if kind is Train else None
    box = io.StringIO()
    args: Any = None
    try:
        with contextlib.nullcontext() if wants_help else contextlib.redirect_stderr(box):
            args, unknown = tyro.cli(
                kind,
                args=rest,
                prog=f"python -m wmlib {argv[0]}",
                default=default,
                return_unknown_args=True,
            )
    except SystemExit:
        if wants_help:
            raise
        raise BadInput(_sentence(box.getvalue())) from None
    if unknown:
        raise BadInput(f"Unknown option {unknown[0]}; see python -m wmlib {argv[0]} --help.")
    if kind is Train and args.resume:
        for name in ("config", "preset", "seed", "pixels", "size", "env_args"):
            if getattr(args, name) != getattr(default, name):
                raise BadInput(
                    f"--resume {args.resume} keeps that run's settings; drop the other options."
                )
    return args


def _train_default(argv: list[str]) -> Train:
    """Defaults of `train` depend on the preset asked for, or on the run to be resumed."""

    def given(option: str) -> str | None:
        for i, word in enumerate(argv):
            if word == option and i + 1 < len(argv):
                return argv[i + 1]
            if word.startswith(option + "="):
                return word.split("=", 1)[1]
        return None

    default = Train(env=tyro.MISSING, preset=given("--preset") or "tiny")
    run = given("--resume")
    if run is None:
        return replace(default, config=preset(default.preset))
    (_, about), *_ = read_checkpoint(latest(Path(run)), "agent")
    config = Config().replace(**about["config"])
    spec = about["env"]
    if given("--preset") not in (None, config.name):
        raise BadInput(f"{run} was trained with preset '{config.name}', not '{default.preset}'.")
    pairs = tuple(f"{k}={json.dumps(v)}" for k, v in spec.get("kwargs", {}).items())
    return replace(
        default,
        preset=config.name,
        config=config,
        seed=about["seed"],
        pixels=spec["pixels"],
        size=spec["size"],
        env_args=pairs,
    )


def _sentence(box: str) -> str:
    """The message inside tyro's box, on one line."""
    lines = [line.strip("│ ").strip() for line in box.splitlines() if line.startswith("│")]
    text = lines[: next((i for i, t in enumerate(lines) if t.startswith("─")), len(lines))]
    return " ".join(text) or box.strip().replace("\n", " ")


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    actions = {Train: run_train, Evaluate: run_evaluate, Dream: run_dream}
    actions |= {Check: run_check, Bench: run_bench, Experiment: run_experiment}
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        if not isinstance(args, Bench | Experiment):
            set_threads()
        line = actions[type(args)](args)
        print(line)
    except BadInput as error:
        print(f"wmlib: {error}", file=sys.stderr)
        return 2
    except (FloatingPointError, KeyboardInterrupt, OSError) as error:
        print(f"wmlib: {str(error) or 'interrupted'}", file=sys.stderr)
        return 1
    return int(isinstance(args, Check) and not json.loads(line)["ok"])


if __name__ == "__main__":
    sys.exit(main())
