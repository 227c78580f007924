"""The bugs: each agent differs from the healthy agent exactly where it says, and heals again."""

import contextlib
import copy
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

import wmlib
from wmlib import actor_critic, diagnostics
from wmlib.experiments import hospital
from wmlib.experiments.bench import random_batch
from wmlib.experiments.bugs import BUGS
from wmlib.experiments.store import Size
from wmlib.losses import lambda_return

NETWORKS = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4)
SMALL = Size(4, every=2, batch=3, episodes=12, exam=40, dream_updates=2, dreams=8, config=NETWORKS)


@pytest.fixture
def agent():
    agent = hospital.newborn(0, **NETWORKS)
    for head in (agent.world.reward_head, agent.world.continue_head, agent.critic.fast):
        torch.nn.init.normal_(head.out.weight, std=0.3)
    return agent


def observed(agent, rows):
    """States of the rows with fixed dice, and the losses."""
    torch.manual_seed(0)
    seen = agent.world.observe(rows)
    torch.manual_seed(0)
    return seen, agent.world.losses(rows, seen)


def gradients(agent, rows, name):
    """Gradient of one weighted loss in every parameter."""
    agent.zero_grad()
    _, losses = observed(agent, rows)
    (agent.scales(behaviour=False)[name] * losses[name].mean()).backward()
    return [None if p.grad is None else p.grad.clone() for p in agent.parameters()]


@pytest.mark.parametrize("name", BUGS)
def test_bugs_are_gone_on_leaving(agent, name):
    rows = hospital.windows(agent, 1, 6)
    before, losses = observed(agent, rows)
    with BUGS[name](agent):
        pass
    after, same = observed(agent, rows)
    assert torch.equal(before.state.feature, after.state.feature)
    assert all(torch.equal(losses[key], same[key]) for key in losses)
    assert actor_critic.lambda_return is lambda_return and agent.scales()["dyn"] == 1.0


def test_the_shifted_action_is_the_one_that_comes_after(agent):
    rows = hospital.windows(agent, 1, 6)
    healthy, _ = observed(agent, rows | {"prev_action": rows["action"]})
    with BUGS["action shifted"](agent):
        ill, _ = observed(agent, rows)
        acting, _ = observed(agent, {k: v for k, v in rows.items() if k != "action"})
    assert torch.equal(healthy.state.feature, ill.state.feature)
    usual, _ = observed(agent, rows)
    assert torch.equal(acting.state.feature, usual.state.feature)
    assert not torch.equal(ill.state.feature, usual.state.feature)


def test_without_the_latent_memory_does_not_depend_on_what_was_seen(agent):
    rows = hospital.windows(agent, 1, 6)
    other = rows | {"obs": rows["obs"].roll(1, 0)}
    with BUGS["latent not fed back"](agent):
        assert torch.equal(observed(agent, rows)[0].state.h, observed(agent, other)[0].state.h)
    assert not torch.equal(observed(agent, rows)[0].state.h, observed(agent, other)[0].state.h)


def test_without_a_reset_the_last_episode_is_still_there(agent):
    rows = hospital.windows(agent, 1, 6)
    assert rows["is_first"][:, 8].all() and diagnostics.reset_gap(agent, rows) == 0
    with BUGS["no reset"](agent):
        assert diagnostics.reset_gap(agent, rows) > 0.01
        first, _ = observed(agent, rows)
    usual, _ = observed(agent, rows)
    assert torch.equal(first.state.feature[:, :8], usual.state.feature[:, :8])  # as it should be


def test_the_masked_terminal_changes_the_continue_loss_only(agent):
    rows = hospital.windows(agent, 1, 6)
    _, usual = observed(agent, rows)
    with BUGS["terminal masked"](agent):
        _, ill = observed(agent, rows)
    for key in usual:
        assert torch.equal(usual[key], ill[key]) == (key != "con")
    ended = rows["is_terminal"]
    assert torch.equal(usual["con"][~ended], ill["con"][~ended])
    assert not torch.isclose(usual["con"][ended], ill["con"][ended]).any()


def test_the_swapped_sides_have_each_others_weights(agent):
    rows = hospital.windows(agent, 1, 6)
    usual = {name: gradients(agent, rows, name) for name in ("dyn", "rep", "rec")}
    with BUGS["KL sides swapped"](agent):
        ill = {name: gradients(agent, rows, name) for name in usual}
        assert agent.scales()["dyn"] == pytest.approx(0.3) and agent.scales()["rep"] == 1
    for name, factor in (("dyn", 0.3), ("rep", 1 / 0.3), ("rec", 1.0)):
        for a, b in zip(usual[name], ill[name], strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(b, factor * a, rtol=1e-3, atol=1e-7)


def test_the_late_return_asks_the_state_that_is_left(agent):
    reward, value = torch.randn(3, 5), torch.randn(3, 5)
    none = torch.zeros(3, 5)
    with BUGS["return off by one"](agent):
        one_step = actor_critic.lambda_return(reward, value, none, none, 0.9, 0.0)
    torch.testing.assert_close(one_step, reward[:, :-1] + 0.9 * value[:, :-1])


def test_the_charts_of_a_model_that_is_perfect_in_one_respect(agent, monkeypatch):
    rows = hospital.windows(agent, 1, 200)
    clock = rows["is_terminal"].float()
    monkeypatch.setattr(agent.world, "continues", lambda feature: 1 - clock[: len(feature)])
    assert diagnostics.ending(agent, rows) == 0
    monkeypatch.undo()
    assert 0 <= diagnostics.memory_share(agent, rows) <= 1
    batch = {name: part[:4] for name, part in rows.items()}
    assert diagnostics.reset_gap(agent, batch) == 0


def test_memory_finds_a_lane_that_is_written_into_h(agent, monkeypatch):
    rows = hospital.windows(agent, 1, 300)
    seen = agent.world.observe(rows)
    cells = rows["obs"][:, 0, :2, :, 0].float().mean(1).view(300, 8, 2).mean(-1)
    h = seen.state.h.clone()
    h[:, 3, :8] = cells / 255
    states = seen.state._replace(h=h)
    monkeypatch.setattr(agent.world, "observe", lambda _: type(seen)(states, *list(seen)[1:]))
    assert diagnostics.memory_share(agent, rows) > 0.99


def test_results_are_written_once(monkeypatch, tmp_path):
    plan = {"healthy": (0, 1)} | dict.fromkeys(BUGS, (0,)) | {hospital.LONGER: (1,)}
    monkeypatch.setattr(hospital, "PLAN", plan)
    lines = hospital.run(tmp_path, size=SMALL)
    assert [(line["patient"], line["seed"]) for line in lines] == [
        ("healthy", 0),
        ("healthy", 1),
        *((name, 0) for name in BUGS),
        (hospital.LONGER, 1),
    ]
    for line in lines:
        assert np.isfinite([line[chart] for chart in hospital.CHARTS]).all()
        assert len(line["curve"]) == (4 if "twice" in line["patient"] else 2)
        assert line["command"] == "python -m wmlib experiment hospital"
    assert lines == hospital.results(tmp_path).runs()
    before = (tmp_path / "hospital.jsonl").read_bytes()
    assert hospital.run(tmp_path, size=SMALL) == lines
    assert (tmp_path / "hospital.jsonl").read_bytes() == before


def test_the_same_seed_gives_the_same_charts():
    first, second = (hospital.run_seed("no reset", 3, SMALL)[0] for _ in range(2))
    assert first | {"seconds": 0} == second | {"seconds": 0}
    assert wmlib.preset("tiny").lr_decay != hospital.CHANGES["lr_decay"]


@pytest.mark.parametrize("name", BUGS)
def test_every_bug_is_in_the_update_of_the_agent(agent, name):
    """One update on the same batch with the same dice leaves other weights behind."""
    batch = random_batch(agent)
    batch["is_first"][:, 3] = True  # a reset within every window
    batch["is_terminal"][:, 2] = batch["is_last"][:, 2] = True
    after = []
    for bug in (contextlib.nullcontext, BUGS[name]):
        patient = copy.deepcopy(agent)
        patient.optimizer = patient.build_optimizer()
        for group in patient.optimizer.param_groups:
            group["warmup"] = 0
        with bug() if bug is contextlib.nullcontext else bug(patient):
            torch.manual_seed(0)
            patient.update(batch)
        after.append(torch.cat([p.detach().flatten() for p in patient.parameters()]))
    assert after[0].isfinite().all() and after[1].isfinite().all()
    assert (after[0] != after[1]).float().mean() > 0.01


def test_the_tests_that_notebook_10_names_exist():
    root = Path(__file__).parents[1]
    book = nbformat.read(root / "notebooks" / "10_bug_hospital.ipynb", 4)
    named = re.findall(
        r"`(test_\w+\.py)::(test_\w+)`", "\n".join(cell.source for cell in book.cells)
    )
    assert len(named) == 15
    for file, name in named:
        assert f"def {name}(" in (root / "tests" / file).read_text(), f"{file}::{name}"
