"""All numbers of a run in one typed place; an unknown key is an error."""

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, Literal

from wmlib.errors import BadInput

__all__ = ["PRESETS", "Config", "preset"]


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are those of DreamerV3 at its `size1m`."""

    name: str = "custom"
    # sizes (spec: deter 128d, hidden 16d, classes d, units 16d, depth d; here d = 4)
    deter: int = 512  # D, deterministic state h
    hidden: int = 64  # U, inside the recurrent core, prior and posterior
    stoch: int = 32  # S, categorical latents
    classes: int = 4  # K, classes of each
    units: int = 64  # all other MLPs
    depth: int = 4  # channels of the image coder, times (2, 3, 4, 4)
    blocks: int = 8  # g, blocks of the recurrent core
    bins: int = 255  # of the reward and value heads
    coder: Literal["pooled", "strided"] = "pooled"  # image coder; strided is our cheaper deviation
    likelihood: Literal["mse", "bernoulli"] = "mse"  # of pixels; bernoulli counts nats (deviation)
    # world-model losses
    vector_scale: float = 1.0  # weight of the squared error of vectors (1 in the paper)
    unimix: float = 0.01
    free_nats: float = 1.0
    dyn_scale: float = 1.0
    rep_scale: float = 0.1
    # behaviour
    horizon: int = 15  # imagined steps H
    imagine_last: int = 0  # dream only from the last k rows of each window; 0 = from all
    discount_horizon: float = 333.0  # gamma = 1 - 1/333
    lam: float = 0.95
    entropy_scale: float = 3e-4
    replay_value_scale: float = 0.3
    slow_rate: float = 0.02
    # optimiser
    lr: float = 4e-5
    warmup: int = 1000  # updates
    lr_decay: int = 0  # lr / (1 + n / lr_decay) at update n; 0 = constant, as in the paper
    actor_lr: float = 1.0  # the actor's learning rate, relative to lr (1 in the paper)
    agc: float = 0.3
    # data
    num_envs: int = 16
    batch_size: int = 16  # B
    batch_length: int = 64  # T
    ratio: float = 32.0  # replayed rows per environment step
    replay_rows: int = 5_000_000
    replay_bytes: int = 2**31
    stored_latents: bool = False  # start windows from stored h, z (deviation in its details)
    random_steps: int = 0  # environment steps of random play before the first update (deviation)
    model_updates: int = 0  # world-model-only updates right after them (deviation)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), field.type)
        rules = {
            "deter": (self.deter % self.blocks == 0, f"a multiple of blocks ({self.blocks})"),
            "bins": (self.bins % 2 == 1 and self.bins > 1, "odd and at least 3"),
            "batch_length": (self.batch_length > 1, "at least 2"),
            "imagine_last": (self.imagine_last != 1, "0 (all) or at least 2"),
            "discount_horizon": (self.discount_horizon > 1, "greater than 1"),
            **{name: (getattr(self, name) <= 1, "at most 1") for name in _FRACTIONS},
        }
        for name, (good, rule) in rules.items():
            if not good:
                raise BadInput(f"Config key '{name}' is {getattr(self, name)}; it must be {rule}.")

    @property
    def gamma(self) -> float:
        """Discount factor per step."""
        return 1 - 1 / self.discount_horizon

    def replace(self, **changes: Any) -> "Config":
        """Return a copy with some keys changed; an unknown key raises BadInput."""
        names = [f.name for f in dataclasses.fields(self)]
        for key in changes:
            if key not in names:
                near = difflib.get_close_matches(key, names, 3) or names
                raise BadInput(f"Unknown config key '{key}'; did you mean {' or '.join(near)}?")
        return dataclasses.replace(self, **changes)


_FRACTIONS = ("unimix", "lam", "slow_rate")
_MAY_BE_ZERO = {
    *("free_nats", "imagine_last", "entropy_scale", "replay_value_scale", "warmup", "unimix"),
    *("random_steps", "model_updates", "lam", "agc", "lr_decay", "dyn_scale", "rep_scale"),
}


def _check(name: str, value: Any, kind: Any) -> None:
    """Raise BadInput unless `value` is of the annotated type and in range."""
    options = getattr(kind, "__args__", None)  # Literal
    if options:
        if value not in options:
            raise BadInput(f"Config key '{name}' is {value!r}; allowed are {', '.join(options)}.")
        return
    allowed = {int: (int,), bool: (bool,), float: (int, float), str: (str,)}[kind]
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise BadInput(f"Config key '{name}' is {value!r}; it must be of type {kind.__name__}.")
    if kind is str:
        return
    low = 0 if name in _MAY_BE_ZERO else 1 if kind is int else 1e-12
    if kind is not bool and not low <= value < float("inf"):
        raise BadInput(f"Config key '{name}' is {value!r}; it must be at least {low:g} and finite.")


def _size(d: int) -> Config:
    return Config(deter=128 * d, hidden=16 * d, classes=d, units=16 * d, depth=d)


# Runs of minutes instead of days: our deviations from the paper's numbers, measured on Curtain.
SHORT: dict[str, Any] = dict(
    free_nats=0.0,
    vector_scale=30.0,
    entropy_scale=3e-3,
    bins=63,
    lr=2e-3,
    lr_decay=2000,
    actor_lr=0.5,
    warmup=100,
    batch_size=16,
    batch_length=16,
    ratio=32.0,
    random_steps=3000,
    model_updates=800,
    stored_latents=True,
)

_TINY: dict[str, Any] = dict(
    deter=128,
    hidden=96,
    stoch=4,
    classes=8,
    units=96,
    depth=8,
    coder="strided",
    likelihood="bernoulli",
    horizon=8,
    **SHORT,
)

# The teaching world wants a good model first, short dreams, and an actor that keeps trying.
_CURTAIN: dict[str, Any] = dict(
    random_steps=6000, model_updates=1200, horizon=5, lam=0.8, entropy_scale=0.02
)

# Four numbers are soon modelled: the actor can start early, should look far, and settle soon.
_CARTPOLE: dict[str, Any] = dict(
    random_steps=1000, model_updates=300, horizon=15, imagine_last=8, lr_decay=300
)

PRESETS: dict[str, Config] = {
    "tiny": Config(**_TINY),
    "curtain": Config(**(_TINY | _CURTAIN)),
    "cartpole": Config(**(_TINY | _CARTPOLE)),
    "small": Config(
        deter=512,
        hidden=256,
        stoch=16,
        classes=16,
        units=256,
        depth=16,
        likelihood="bernoulli",
        **SHORT,
    ),
    "size1m": _size(4),
    "size12m": _size(16),
    "size25m": _size(24),
    "size50m": _size(32),
    "size100m": _size(48),
    "size200m": _size(64),
    "size400m": _size(96),
}


def preset(name: str, **changes: Any) -> Config:
    """Return a named `Config`, with some keys changed.

    Raises:
        BadInput: unknown preset or key, or a value out of range.
    """
    if name not in PRESETS:
        raise BadInput(f"Unknown preset '{name}'; allowed are {', '.join(PRESETS)}.")
    return PRESETS[name].replace(name=name, **changes)
