"""The cheat meter: exact returns, a bet before the answer, and dots of one's own."""

import itertools

import numpy as np
import pytest

from wmlib.envs.curtain import make_rules
from wmlib.envs.oracle import at_start, cheat_curve, optimal_return, sweep
from wmlib.errors import BadInput
from wmlib.widgets import CheatMeter
from wmlib.widgets.cheat_meter import TAUS, compute, draw, heated, place, soft_policy

ON_PAGE = "CheatMeter(tau=0.1, own={0.1: (0.76, 0.2)})"


def test_without_a_bonus_it_is_the_cheat_curve():
    for p in (0.5, 0.6, 0.8, 0.95):
        r = compute(0.3, p)
        world = make_rules(p=p, late=True)
        exact = cheat_curve(world, [*TAUS, 0.3])
        np.testing.assert_allclose(np.stack([r.dream_curve, r.real_curve], 1), exact[:-1])
        assert (r.dream, r.real) == pytest.approx(tuple(exact[-1]))
        assert r.real <= r.best + 1e-12


def test_the_heated_coin():
    world = make_rules(p=0.8, late=True)
    assert heated(world, 1.0).probs == pytest.approx((0.8, 0.2))
    assert heated(world, 0.5).probs == pytest.approx((16 / 17, 1 / 17))
    assert heated(world, 1e6).probs == pytest.approx((0.5, 0.5), abs=1e-5)


@pytest.mark.parametrize("rules", [make_rules(p=0.6, late=True), make_rules(p=0.7)])
def test_the_soft_policy_is_the_best_with_its_bonus(rules):
    bonus = 0.1
    policy = soft_policy(rules, bonus)
    np.testing.assert_allclose(policy.sum(-1), 1)

    def paid(policy):
        """Return plus bonus, by playing all there is: start lane, paddle, coin."""
        total = 0.0
        for s, x, k in itertools.product(range(4), range(8), range(2)):
            share = np.zeros(8)
            share[x] = rules.probs[k] / 32
            for t in range(rules.last):
                chance = policy[t, s, k if t >= rules.reveal else 2]  # (8, 3)
                entropy = -(chance * np.log(np.maximum(chance, 1e-300))).sum(-1)
                total += bonus * (share * entropy).sum()
                step = share[:, None] * chance
                share = np.zeros(8)
                for a in range(3):
                    np.add.at(share, np.clip(np.arange(8) + a - 1, 0, 7), step[:, a])
        return total + at_start(sweep(rules, policy=policy)[0])

    best = paid(policy)
    rng = np.random.default_rng(0)
    for size in (0.01, 0.1, 1.0):
        noise = policy * np.exp(size * rng.normal(size=policy.shape))
        assert paid(noise / noise.sum(-1, keepdims=True)) < best
    assert paid(sweep(rules)[1]) < best
    nearly = at_start(sweep(rules, policy=soft_policy(rules, 1e-6))[0])
    assert nearly == pytest.approx(optimal_return(rules), abs=1e-4)


def test_bad_input_is_told():
    for settings in ({"tau": 0.0}, {"entropy": -0.1}):
        with pytest.raises(BadInput, match="must be positive"):
            compute(**settings)


def test_the_real_return_is_hidden_until_a_bet_is_placed():
    own = {0.1: (0.7, 0.2), 1.0: (0.4, 0.4)}
    hidden, shown = draw(compute(0.1, own=own)), draw(compute(0.1, own=own, bet=0.5))
    plot = (0, 0, 920, 660)
    slate = (0x47, 0x55, 0x69)

    def count(image):
        return (np.asarray(image.crop(plot)) == slate).all(-1).sum()

    assert count(hidden) == 0 < count(shown)
    other = draw(compute(0.1, own={0.1: (0.7, -0.4), 1.0: (0.4, 0.9)}))
    assert np.array_equal(np.asarray(hidden), np.asarray(other))  # nor do the dots tell


def test_places_in_the_plot():
    assert place(TAUS[0], -0.5) == (64, 316) and place(TAUS[-1], 1.0) == (432, 54)
    assert place(100.0, 7.0) == place(TAUS[-1], 1.0)


def test_bets_are_kept_and_hidden_again():
    widget = CheatMeter(tau=0.1, own={0.1: (0.7, 0.2)})
    assert widget.result.bet is None and widget.result.own
    widget.guess.value = 0.5
    widget.button.click()
    first = widget.result
    assert first.bet == 0.5 and first.bets == ((0.5, first.real),)
    widget.button.click()  # twice is once
    assert widget.result is first
    before = widget.image.value
    widget.p.value = 0.8
    assert widget.result.bet is None and not widget.result.own and widget.image.value != before
    widget.button.click()
    assert len(widget.result.bets) == 2 and widget.failure is None
    widget.p.value = 0.6
    assert widget.result.own and widget.result.bet == 0.5  # what was shown once stays shown
    widget.tau.value, widget.entropy.value = 1.0, 0.1
    assert widget.result.entropy == pytest.approx(0.1) and widget.failure is None


def test_a_first_bet_may_be_given():
    widget = CheatMeter(tau=0.1, bet=0.5)
    assert widget.result.bet == 0.5 and len(widget.result.bets) == 1
    widget.guess.value = 0.7  # also by a front end that rounds to its steps
    assert widget.result.bet == 0.5 and len(widget.result.bets) == 1


@pytest.mark.parametrize("tau", [0.1, 0.25, 0.123])
def test_the_slider_stands_exactly_at_the_temperature_given(tau):
    widget = CheatMeter(tau=tau)
    assert widget.tau.value == widget.result.tau == tau
    assert list(widget.tau.options) == sorted(widget.tau.options)


def test_the_mark_follows_the_slider_until_the_bet_is_placed():
    widget = CheatMeter()
    pictures = {widget.image.value}
    for bet in (-0.2, 0.4):
        widget.guess.value = bet
        assert widget.result.mark == bet and widget.result.bet is None
        pictures.add(widget.image.value)
    assert len(pictures) == 3
    widget.button.click()
    before = widget.image.value
    widget.guess.value = 0.9
    assert widget.result.bet == 0.4 and widget.image.value == before
