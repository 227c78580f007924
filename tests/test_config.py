import dataclasses

import gymnasium as gym
import pytest
import torch
from conftest import VECTOR

from wmlib.agent import Dreamer
from wmlib.config import PRESETS, Config, preset
from wmlib.errors import BadInput

FIELDS = dataclasses.fields(Config)
NAMES = [f.name for f in FIELDS]
INTS = [f.name for f in FIELDS if f.type is int]
FLOATS = [f.name for f in FIELDS if f.type is float]
CHOICES = ["coder", "likelihood"]
MAY_BE_ZERO = {"imagine_last", "warmup", "lr_decay", "random_steps", "model_updates"}


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_key_is_refused_and_the_right_one_named(name):
    with pytest.raises(BadInput, match=rf"Unknown config key '{name}x'.*{name}"):
        preset("tiny", **{name + "x": 1})


def test_a_key_that_resembles_nothing_lists_all():
    with pytest.raises(BadInput, match="batch_length"):
        Config().replace(zzzzzz=1)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "name"])
@pytest.mark.parametrize("value", ["many", None, [1], (2,)], ids=repr)
def test_a_wrong_type_is_refused(name, value):
    with pytest.raises(BadInput, match=f"'{name}'"):
        Config().replace(**{name: value})


@pytest.mark.parametrize("name", INTS)
@pytest.mark.parametrize("value", [1.5, 8.0, True], ids=repr)
def test_whole_numbers_are_ints(name, value):
    with pytest.raises(BadInput, match=f"'{name}'"):
        Config().replace(**{name: value})


@pytest.mark.parametrize("name", [*FLOATS, *CHOICES])
def test_a_bool_is_neither_a_number_nor_a_choice(name):
    with pytest.raises(BadInput, match=f"'{name}'"):
        Config().replace(**{name: True})


def test_the_name_is_text():
    with pytest.raises(BadInput, match="'name'"):
        Config(name=3)
    assert preset("tiny").name == "tiny"


def test_a_flag_is_a_bool():
    with pytest.raises(BadInput, match="'stored_latents'"):
        Config(stored_latents=1)


@pytest.mark.parametrize("name", INTS + FLOATS)
def test_negative_numbers_are_refused(name):
    with pytest.raises(BadInput, match=f"'{name}'"):
        Config().replace(**{name: -1})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("inf"), float("nan")], ids=repr)
def test_numbers_are_finite(name, value):
    with pytest.raises(BadInput, match=f"'{name}'"):
        Config().replace(**{name: value})


@pytest.mark.parametrize("name", sorted({*INTS} - MAY_BE_ZERO) + ["lr", "discount_horizon"])
def test_sizes_are_positive(name):
    with pytest.raises(BadInput, match=f"'{name}'"):
        Config().replace(**{name: 0})


@pytest.mark.parametrize(
    "name, value",
    [
        ("unimix", 1.5),  # negative probabilities
        ("lam", 1.5),  # weights of the return that do not sum to one
        ("slow_rate", 1.5),  # overshoots the fast critic
        ("discount_horizon", 0.5),  # negative discount
        ("bins", 1),  # no neighbours to share a target
        ("imagine_last", 1),  # the replay value carries no loss on the last row: none is left
        ("batch_length", 1),
    ],
)
def test_values_that_make_no_mathematical_sense_are_refused(name, value):
    with pytest.raises(BadInput, match=f"'{name}'"):
        Config().replace(**{name: value})


@pytest.mark.parametrize("change", [{"deter": 100}, {"bins": 64}, {"blocks": 7}])
def test_sizes_that_do_not_fit_together_are_refused(change):
    with pytest.raises(BadInput, match="must be"):
        Config().replace(**change)


def test_unknown_choices_are_refused_and_the_allowed_ones_named():
    with pytest.raises(BadInput, match="pooled, strided"):
        Config(coder="patches")
    with pytest.raises(BadInput, match="mse, bernoulli"):
        Config(likelihood="gauss")


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(BadInput, match="tiny, curtain, cartpole, small, size1m"):
        preset("huge")


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 1.0


@pytest.mark.parametrize(
    "name, d",
    [
        ("size1m", 4),
        ("size12m", 16),
        ("size25m", 24),
        ("size50m", 32),
        ("size100m", 48),
        ("size200m", 64),
        ("size400m", 96),
    ],
)
def test_sizes_follow_one_rule(name, d):
    c = preset(name)
    assert (c.deter, c.hidden, c.classes, c.units, c.depth) == (128 * d, 16 * d, d, 16 * d, d)
    assert (c.stoch, c.blocks, c.bins, c.coder, c.likelihood) == (32, 8, 255, "pooled", "mse")


def test_the_defaults_are_the_papers():
    c = Config()
    assert (c.unimix, c.free_nats, c.dyn_scale, c.rep_scale) == (0.01, 1.0, 1.0, 0.1)
    assert (c.horizon, c.lam, c.entropy_scale, c.slow_rate) == (15, 0.95, 3e-4, 0.02)
    assert (c.replay_value_scale, c.lr, c.warmup, c.agc) == (0.3, 4e-5, 1000, 0.3)
    assert (c.batch_size, c.batch_length, c.ratio, c.replay_rows) == (16, 64, 32, 5_000_000)
    assert (c.imagine_last, c.stored_latents, c.actor_lr) == (0, False, 1.0)
    assert c.gamma == pytest.approx(0.996997, abs=1e-6)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("side", [None, 64])
def test_every_preset_builds(name, side):
    image = gym.spaces.Box(0, 255, (64, 64, 3), "uint8")
    with torch.device("meta"):
        agent = Dreamer(image if side else VECTOR, gym.spaces.Discrete(4), preset(name))
    assert all(count > 0 for count in agent.summary().values())
