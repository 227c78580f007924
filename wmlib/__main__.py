"""Command line: python -m wmlib COMMAND.

The commands are check, doctor, train, evaluate, dream, page, export, bench, gpu and experiment.
Results go to stdout as one line of JSON, everything else to stderr. Exit codes: 0 done, 2 bad
input, 1 failure.
"""

import ast
import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import tyro

from wmlib import doctor
from wmlib.agent import Dreamer
from wmlib.checkpoint import (
    checkpoints,
    env_spec,
    latest,
    load_agent,
    lock_run,
    run_folder,
    try_writing,
    vacant,
)
from wmlib.config import Config, preset
from wmlib.distributed import count, joined, own_device, rank, together
from wmlib.envs.make import make_env
from wmlib.envs.rows import explained
from wmlib.errors import BadInput
from wmlib.play import evaluate
from wmlib.policy import export_weights, find_agent
from wmlib.runtime import handling, pick_device, say, seed_everything, set_threads
from wmlib.spaces import Unreadable
from wmlib.trainer import Result, train

POSITIONAL = tyro.conf.Positional
Imports: TypeAlias = Annotated[tuple[str, ...], tyro.conf.arg(name="import")]


@dataclass
class World:
    """Which environment, as whoever trains in it sees it."""

    env: POSITIONAL[str]
    """Gymnasium id, for instance CartPole-v1, or my_module:MyEnv, a class of yours."""
    pixels: bool = False
    """Learn from rendered frames instead of the environment's own observation."""
    size: int | None = None
    """Side of images in pixels: 32 for rendered frames, and at most 64 for others, by default."""
    keys: tuple[str, ...] = ()
    """The parts of a Dict observation to learn from; by default all."""
    symbolic: int | None = None
    """Grids of integers hold symbols of so many kinds, not brightness; 0: they hold brightness."""
    env_args: tuple[str, ...] = ()
    """Arguments of the environment, as name=value."""
    seed: int = 0
    device: str = "auto"
    imports: Imports = ()
    """Modules to import first, such as the one in which the environment is."""

    def spec(self) -> dict[str, Any]:
        """What `make_env` takes."""
        spec: dict[str, Any] = {"id": self.env, "pixels": self.pixels}
        size = self.size or (32 if self.pixels else 64)
        spec |= {"size": size, "kwargs": _env_args(self.env_args)}
        spec |= {"keys": list(self.keys)} if self.keys else {}
        return spec | ({"symbolic": self.symbolic} if self.symbolic is not None else {})


@dataclass
class Train(World):
    """Train an agent in any Gymnasium environment. Every key of the config is an option too."""

    preset: str = "tiny"
    """tiny (for a CPU), curtain and cartpole (for those worlds), small, size1m ... size400m."""
    steps: int | None = None
    """Environment steps in all (default: 24000 unless --minutes is given)."""
    minutes: float | None = None
    """Stop training after this many minutes; the evaluation at the end comes on top."""
    eval_every: int = 0
    """Evaluate every so many steps (0: only at the end)."""
    eval_episodes: int = 20
    out: str | None = None
    """Run directory (default: a new one under runs/)."""
    resume: str | None = None
    """Continue the run in this directory, with its own settings."""
    async_envs: bool = False
    """Step every copy of the environment in a process of its own; pays where steps are slow."""
    save_seconds: float = 60.0
    """Write a checkpoint so often."""
    tensorboard: bool = False
    """Also write the metrics to tensorboard/ in the run directory (needs that package)."""
    compile: bool = False
    """Compile first, for a GPU; a CPU takes over a minute for updates that are a tenth faster."""
    config: tyro.conf.OmitArgPrefixes[Config] = field(default_factory=Config)


@dataclass
class Doctor(World):
    """Look at an environment, and say with which settings to begin."""

    minutes: float = 5.0
    """How long the suggested run should take."""
    seconds: float = 5.0
    """How long to play at random, and how long to train."""


@dataclass
class Evaluate:
    """Play a trained agent and report its returns."""

    run: POSITIONAL[str]
    """Run directory, checkpoint, agent file, or the name of a shipped agent."""
    episodes: int = 20
    mode: bool = False
    """Take the most likely action instead of drawing one."""
    seed: int = 10_000
    device: str = "auto"
    imports: Imports = ()
    """Modules to import first, such as the one in which the environment is."""


@dataclass
class Dream:
    """Write a GIF: reality above, the agent's dream of it below."""

    run: POSITIONAL[str]
    """Run directory, checkpoint, agent file, or the name of a shipped agent."""
    out: str = "dream.gif"
    context: int = 3
    """Real frames seen before the eyes close."""
    horizon: int = 45
    seed: int = 0
    imports: Imports = ()
    """Modules to import first, such as the one in which the environment is."""


@dataclass
class Page:
    """Write a web page that needs nothing else, to play in the world and in the dream of it."""

    run: POSITIONAL[str]
    """Run directory, checkpoint, agent file, or the name of a shipped agent."""
    out: str = "dream.html"
    context: int = 4
    """Real frames seen before the eyes close; the page can change it."""
    horizon: int = 60
    """Frames dreamt before they open again; the page can change it."""
    seed: int = 0
    imports: Imports = ()
    """Modules to import first, such as the one in which the environment is."""


@dataclass
class Export:
    """Write an agent's weights to one file for sharing, and time how long it takes to act."""

    run: POSITIONAL[str]
    """Run directory, checkpoint, agent file, or the name of a shipped agent."""
    weights: str = "agent.safetensors"
    """The file; wmlib.load_policy and wmlib.load_agent read it."""
    imports: Imports = ()
    """Modules to import first, such as the one in which the environment is."""


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


@dataclass
class Gpu:
    """Try the agent on a GPU: compare it with the CPU, time it, train it, and write a report."""

    device: str = "auto"
    out: str = "notebooks/results"
    """Where to write the report, gpu-CARD.json."""
    sizes: tuple[str, ...] = ("size1m", "size12m", "size50m", "size200m")
    """Presets to time updates of."""
    minutes: float = 5.0
    """How long each of the two trainings takes (0: none)."""
    seconds: float = 5.0
    """How long to time each case."""


COMMANDS = {"check": Check, "train": Train, "evaluate": Evaluate, "dream": Dream, "bench": Bench}
COMMANDS |= {"doctor": Doctor, "page": Page, "gpu": Gpu, "export": Export}
COMMANDS |= {"experiment": Experiment}


def run_train(args: Train) -> str:
    """Train; returns the line of JSON, in the first of several processes."""
    if args.resume and (args.out and Path(args.out) != Path(args.resume)):
        raise BadInput(f"--resume {args.resume} writes there; drop --out {args.out}.")
    device = own_device(pick_device(args.device))
    seed_everything(args.seed)
    spec: dict[str, Any] = {**args.spec(), "num_envs": args.config.num_envs}
    env = make_env(**spec, seed=args.seed, async_envs=args.async_envs)
    agent = Dreamer(env.single_observation_space, env.single_action_space, args.config).to(device)
    if args.compile:
        agent.compile_parts()
    steps = 24_000 if args.steps is None and args.minutes is None else args.steps
    out = args.resume or args.out
    out = out or together(lambda: _new_run(args.env, args.preset, args.seed), alone=True)[0]
    interrupted = False
    try:
        result = train(
            agent,
            env,
            steps,
            out=out,
            minutes=args.minutes,
            seed=args.seed,
            resume=bool(args.resume),
            eval_every=args.eval_every,
            eval_episodes=args.eval_episodes,
            tensorboard=args.tensorboard,
            save_seconds=args.save_seconds,
        )
        interrupted = result.interrupted
        return result.json() if rank() == 0 else ""
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        env.close()
        if interrupted and checkpoints(Path(out)):
            python = f"torchrun --nproc-per-node {count()}" if count() > 1 else "python"
            say(f"To go on with this run: {python} -m wmlib train {args.env} --resume {out}")


def _env_args(pairs: tuple[str, ...]) -> dict[str, object]:
    """Arguments of the environment from "name=value", values as in JSON or Python, else words."""
    values: dict[str, object] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise BadInput(f"--env-args takes name=value, not '{pair}'.")
        values[name] = text
        for read in (lambda text: json.dumps(ast.literal_eval(text)), str):  # from Python, JSON
            with contextlib.suppress(
                ValueError, SyntaxError, TypeError, MemoryError, RecursionError
            ):
                values[name] = json.loads(read(text))
    return values


def _new_run(env: str, preset_name: str, seed: int) -> str:
    """First directory of this name under runs/ where a run can begin."""
    stem = f"runs/{re.sub('[^A-Za-z0-9._-]', '-', env.split('/')[-1])}-{preset_name}-seed{seed}"
    path = stem
    number = 1
    while Path(path).exists() and not _free(path):
        number += 1
        path = f"{stem}-{number}"
    return path


def _free(path: str) -> bool:
    """Whether a run that never saved has left this directory, and no process uses it."""
    with contextlib.suppress(BadInput, OSError), lock_run(path):
        return vacant(path)
    return False


def run_evaluate(args: Evaluate) -> str:
    """Evaluate; returns the line of JSON."""
    if args.episodes < 1:
        raise BadInput(f"--episodes is {args.episodes}; it must be at least 1.")
    agent, about = find_agent(args.run, args.device)
    spec = env_spec(about)
    count = min(args.episodes, 100)
    env = make_env(**{**spec, "num_envs": count}, seed=args.seed)
    began = time.monotonic()
    returns = evaluate(agent, env, args.episodes, args.mode, args.seed, progress=True)
    return Result(
        env=spec["id"],
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

    agent, about = find_agent(args.run, "cpu")
    frames = write_dream(
        agent,
        env_spec(about),
        args.out,
        context=args.context,
        horizon=args.horizon,
        seed=args.seed,
    )
    return json.dumps({"run": args.run, "out": args.out, "frames": frames})


def run_page(args: Page) -> str:
    """Write the page; returns a line of JSON."""
    from wmlib import page

    agent, about = find_agent(args.run, "cpu")
    size = page.write(
        agent,
        env_spec(about),
        args.out,
        context=args.context,
        horizon=args.horizon,
        seed=args.seed,
    )
    return json.dumps({"run": args.run, "out": args.out, "bytes": size})


def run_export(args: Export) -> str:
    """Write the file; returns a line of JSON."""
    return json.dumps({"run": args.run, **export_weights(args.run, args.weights)})


def writable_picture(name: str | None) -> Path | None:
    """Where to write a picture, if asked for; refused before anything is computed."""
    picture = Path(name) if name else None
    if picture and not picture.parent.is_dir():
        raise BadInput(f"Cannot write {picture}: there is no directory {picture.parent}.")
    if picture:
        try_writing(picture.parent, picture)
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


def run_doctor(args: Doctor) -> str:
    """Examine an environment; returns a line of JSON, after a report on stderr."""
    spec = args.spec()
    try:
        env = make_env(**spec, seed=args.seed)
    except Unreadable as error:
        if args.keys or not error.keys:
            raise
        say(str(error))
        env = make_env(**spec, keys=error.keys, seed=args.seed)
    with contextlib.closing(env):
        found = doctor.examine(env, args.seconds, args.minutes, args.device, args.imports)
    print(*doctor.lines(found), sep="\n", file=sys.stderr)
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


def run_gpu(args: Gpu) -> str:
    """Measure; returns a line of JSON, after a table on stderr."""
    from wmlib.experiments.gpu import gpu, table

    if args.seconds <= 0:
        raise BadInput(f"--seconds is {args.seconds}; it must be positive.")
    if not args.minutes >= 0:
        raise BadInput(f"--minutes is {args.minutes}; it must be at least 0.")
    report = gpu(pick_device(args.device), Path(args.out), args.sizes, args.minutes, args.seconds)
    print(table(report), file=sys.stderr)
    return json.dumps(report)


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
    rest = _numbers(kind, rest)
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
    for name in ("out", "resume", "run", "plot"):
        if isinstance(getattr(args, name, None), str):
            setattr(args, name, _expanded(getattr(args, name)))
    if kind is Train and args.resume:
        args.resume = str(run_folder(args.resume))
        given, kept = _settings(args), _settings(default)
        names = ["preset", "seed", "pixels", "size", "keys", "symbolic", "env_args"]
        names += vars(args.config)
        other = [f"--{n.replace('_', '-')}" for n in names if n != "name" and given[n] != kept[n]]
        if other:
            raise BadInput(
                f"--resume {args.resume} keeps that run's settings; drop {', '.join(other)}."
            )
    return args


def _settings(args: Any) -> dict[str, object]:
    """What a run keeps when it is resumed, by option."""
    return {**vars(args.config), **vars(args), "env_args": _env_args(args.env_args)}


def _expanded(path: str) -> str:
    """The path with ~ replaced, as the shell does it where it sees one."""
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError as error:
        raise BadInput(f"There is no home directory for {path}.") from error


def _numbers(kind: type, argv: list[str]) -> list[str]:
    """Write whole numbers of options in digits: 1e4 as 10000.

    Raises:
        BadInput: an option that takes a whole number has something else.
    """
    fields = [*dataclasses.fields(kind), *(dataclasses.fields(Config) if kind is Train else ())]
    whole = {f"--{f.name.replace('_', '-')}" for f in fields if f.type in (int, int | None)}
    words: list[str] = []
    before = ""
    for word in argv:
        name, sign, text = word.partition("=") if word[:2] == "--" else (before, "", word)
        if name.replace("_", "-") in whole and text not in ("", "None", "-h"):
            text = _whole(name, text)
        before = name if word == name else ""
        words.append(word if word == name else f"{name}{sign}{text}" if sign else text)
    return words


def _whole(option: str, text: str) -> str:
    with contextlib.suppress(InvalidOperation):
        number = Decimal(text)
        if number.is_finite() and number.adjusted() < 25 and number == number.to_integral_value():
            return str(int(number))
    raise BadInput(f"{option} is {text}; it must be a whole number.")


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
    newest = latest(run_folder(_expanded(run)))
    agent, about = load_agent(newest, "cpu")
    config, spec = (
        agent.config,
        env_spec(about, trusted=True),
    )  # what is made is named on the command line
    if given("--preset") not in (None, config.name):
        raise BadInput(f"{run} was trained with preset '{config.name}', not '{default.preset}'.")
    training = newest / "training.safetensors"
    if training.exists() and config.num_envs * config.deter > training.stat().st_size:
        raise BadInput(f"{newest} is too small for a run in {config.num_envs} environments.")
    return replace(
        default,
        preset=config.name,
        config=config,
        seed=about.get("seed", 0),
        pixels=bool(spec.get("pixels", False)),
        size=spec.get("size", 64),
        keys=tuple(spec.get("keys", ())),
        symbolic=spec.get("symbolic"),
        env_args=tuple(f"{k}={json.dumps(v)}" for k, v in spec.get("kwargs", {}).items()),
    )


def _sentence(box: str) -> str:
    """The message inside tyro's box, on one line."""
    lines = [line.strip("│ ").strip() for line in box.splitlines() if line.startswith("│")]
    text = lines[: next((i for i, t in enumerate(lines) if t.startswith("─")), len(lines))]
    return " ".join(text) or box.strip().replace("\n", " ")


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    if sys.stderr is None:  # closed: else its number would be given to the next file that is opened
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    actions = {Train: run_train, Doctor: run_doctor, Evaluate: run_evaluate, Dream: run_dream}
    actions |= {Check: run_check, Bench: run_bench, Experiment: run_experiment, Export: run_export}
    actions |= {Gpu: run_gpu, Page: run_page}
    try:
        with handling(signal.default_int_handler):
            args = parse(sys.argv[1:] if argv is None else argv)
            if not isinstance(args, Bench | Experiment | Gpu):
                set_threads()
            for module in getattr(args, "imports", ()):
                with explained(module, "imported", "Module"):
                    importlib.import_module(module)
            with joined() if isinstance(args, Train) else contextlib.nullcontext():
                line = actions[type(args)](args)
        if line:
            _print(line)
    except BadInput as error:
        say(str(error))
        return 2
    except (FloatingPointError, KeyboardInterrupt, OSError, MemoryError) as error:
        nothing = "not enough memory" if isinstance(error, MemoryError) else "interrupted"
        say(str(error) or nothing)
        return 1
    return int(isinstance(args, Check | Gpu) and not json.loads(line)["ok"])


def _print(line: str) -> None:
    """Print the result; OSError if nobody can receive it."""
    try:
        print(line, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
        raise OSError(f"The result cannot be printed ({error.strerror}): {line}") from error


if __name__ == "__main__":
    code = main()
    exec(
        ""
    )  # else Python, which notes a Ctrl-C within an exec, may end as if it had not been caught
    sys.exit(code)
