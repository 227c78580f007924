"""The cockpit: it shows what the log says, follows the agent, and leaves the training alone."""

import asyncio
import io

import numpy as np
import pytest
import torch
from IPython.core.events import EventManager
from PIL import Image

import wmlib
from wmlib.widgets import Cockpit

ON_PAGE = "Cockpit(wmlib.load_pretrained('curtain'))"

compute = Cockpit.compute
LINES = [
    {"steps": 100, "updates": 0, "seconds": 1.0, "episodes": 3, "score": -0.9},
    {
        "steps": 200,
        "updates": 40,
        "seconds": 3.0,
        "episodes": 9,
        "score": -0.2,
        "eval_return": 0.1,
        "rec": 3.0,
        "kl": 2.0,
    },
]
QUICK = {
    "batch_size": 4,
    "batch_length": 8,
    "random_steps": 64,
    "model_updates": 2,
    "deter": 16,
    "hidden": 8,
    "units": 8,
    "depth": 8,
    "num_envs": 4,
}


@pytest.fixture(scope="module")
def agent():
    return wmlib.load_pretrained("curtain")


def training(out=None):
    config = wmlib.preset("tiny", **QUICK)
    wmlib.seed_everything(0)
    env = wmlib.make_env("wmlib/Curtain-v0", num_envs=4)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    return wmlib.Trainer(agent, env)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.image.value)))


def test_it_says_what_the_log_says(agent):
    r = compute(agent, LINES, levels={"best": 1.0})
    assert (r.steps, r.updates, r.seconds, r.score) == (200, 40, 3.0, -0.2)
    assert r.levels == {"best": 1.0} and r.film is None
    np.testing.assert_array_equal(r.history["steps"], [100, 200])
    np.testing.assert_array_equal(r.history["eval_return"], [np.nan, 0.1])
    np.testing.assert_array_equal(r.history["rec"], [np.nan, 3.0])


def test_the_film_is_the_blindfold_players(agent):
    env = wmlib.make_env("wmlib/Curtain-v0", num_envs=1)
    rows = wmlib.play(agent, env, 8, seed=4)
    r = compute(agent, LINES, rows, 3, env.vec.rules)
    assert r.film.closed == (False,) * 3 + (True,) * 5
    assert r.film.verdict in ("together", "luck", "error")
    np.testing.assert_array_equal(r.film.real, rows["obs"][0])


@pytest.mark.parametrize("lines", [[], LINES[:1], LINES, [{"steps": 5, "updates": 0}]])
def test_any_log_can_be_drawn(agent, lines):
    for levels in ({}, {"best": 1.0, "chance": -0.8}, {"one": 3.0}):
        image = Cockpit.draw(compute(agent, lines, levels=levels))
        array = np.asarray(image)
        edge = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
        assert image.width == 2 * 720 and (edge == edge[0]).all()  # a closed border


def test_a_useful_state_is_there_before_the_first_update():
    cockpit = Cockpit(training().agent)
    assert list(cockpit.tabs) == ["blindfold", "dream console", "latent mixer"]
    assert cockpit.tab.titles == ("training", *cockpit.tabs)
    assert len(cockpit.tab.children) == 4 and cockpit.failure is None
    assert cockpit.result.steps == 0 and list(cockpit.result.levels.values())[0] > 0.9
    bundle, _ = cockpit._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG") and bundle["text/plain"] == Cockpit.alt


def test_other_worlds_have_the_tabs_they_can_have():
    poles = wmlib.load_pretrained("cartpole")
    cockpit = Cockpit(poles, "CartPole-v1", levels={"most": 500.0})
    assert cockpit.tabs == {} and cockpit.result.film is None
    cockpit.on_log(None, {"steps": 10, "updates": 1, "score": 30.0})
    assert cockpit.result.score == 30 and cockpit.failure is None
    taller = wmlib.make_env("wmlib/Curtain-v0", curtain=3)
    spaces = taller.single_observation_space, taller.single_action_space
    other = Cockpit(wmlib.Dreamer(*spaces, wmlib.preset("tiny")), curtain=3)
    assert list(other.tabs) == ["blindfold", "dream console"]
    with pytest.raises(wmlib.BadInput, match="built for"):
        Cockpit(poles)


def test_it_follows_the_agent_and_refreshes_when_due():
    trainer = training()
    cockpit = Cockpit(trainer.agent, every=10)
    before = {name: bytes(tab.image.value) for name, tab in cockpit.tabs.items()}
    first = pixels(cockpit)
    trainer.run(steps=200, progress=False, eval_every=40, eval_episodes=4, on_log=cockpit.on_log)
    assert cockpit.failure is None and cockpit.result.updates > 30
    assert cockpit.refreshed >= cockpit.result.updates - 15
    assert (pixels(cockpit) != first).any()
    for name, tab in cockpit.tabs.items():
        assert bytes(tab.image.value) != before[name], name
    assert cockpit.result.history["steps"][-1] == trainer.steps


def test_watching_does_not_change_the_training():
    weights = []
    for watched in (False, True):
        trainer = training()
        watch = Cockpit(trainer.agent, every=1).on_log if watched else None
        torch.manual_seed(1)
        trainer.run(steps=200, progress=False, eval_every=20, eval_episodes=4, on_log=watch)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.agent.parameters()]))
    assert torch.equal(*weights)


def test_a_failing_picture_does_not_stop_the_training(agent):
    cockpit = Cockpit(agent)
    cockpit.tabs["blindfold"].refresh = lambda: 1 / 0
    cockpit.on_log(None, {"steps": 1000, "updates": 500})
    assert "ZeroDivisionError" in cockpit.message.value
    assert isinstance(cockpit.failure, ZeroDivisionError)
    del cockpit.tabs["blindfold"]
    cockpit.now.click()
    assert cockpit.message.value == "" and cockpit.result.steps == 1000


class Shell:
    """The part of IPython that the cockpit uses."""

    def __init__(self):
        self.events = EventManager(self, {"post_run_cell": lambda result: None})


def test_clicks_of_a_cell_that_trains_are_dropped(monkeypatch):
    shell, trainer = Shell(), training()
    monkeypatch.setattr("wmlib.widgets.cockpit.get_ipython", lambda: shell)
    monkeypatch.setattr("wmlib.widgets.cockpit.LATE", 0.05)
    cockpit = Cockpit(trainer.agent)
    player, run = cockpit.tabs["blindfold"], cockpit.on_log

    def click_late(*line):
        run(*line)
        before = player.result
        player.again.click()
        assert cockpit.busy and player.result is before
        assert "wmlib-busy" in player.view._dom_classes

    async def cells():
        for _ in range(2):  # the second cell starts before the first has let go
            steps = trainer.steps + 50
            trainer.run(steps, progress=False, eval_every=10, eval_episodes=4, on_log=click_late)
            shell.events.trigger("post_run_cell", None)
            assert cockpit.result.steps > steps - 20
            before = player.result
            player.again.click()  # sent while the cell ran, heard now
            assert player.result is before
        await asyncio.sleep(0.01)
        assert cockpit.busy
        await asyncio.sleep(0.2)

    asyncio.run(cells())
    assert not cockpit.busy and "wmlib-busy" not in player.view._dom_classes
    before = player.result
    player.again.click()
    assert player.result is not before
    cockpit.lines.clear()
    shell.events.trigger("post_run_cell", None)  # a cell that does not train
    assert cockpit.result.steps > 0


def test_without_a_loop_the_next_click_counts(monkeypatch):
    shell = Shell()
    monkeypatch.setattr("wmlib.widgets.cockpit.get_ipython", lambda: shell)
    cockpit = Cockpit(wmlib.load_pretrained("cartpole"), "CartPole-v1", levels={})
    cockpit.on_log(None, {"steps": 10, "updates": 1})
    assert cockpit.busy
    shell.events.trigger("post_run_cell", None)
    assert not cockpit.busy
