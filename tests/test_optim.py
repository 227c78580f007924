import copy

import pytest
import torch
from torch import nn

from wmlib.optim import LaProp, clip

GRADS = [1.0, -2.0, 0.5, 10.0]


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


def walk(optimiser, p, grads):
    path = []
    for g in grads:
        p.grad = torch.full_like(p, g)
        optimiser.step()
        path.append(p.item())
    return path


def test_laprop_fixture():
    p = parameter(0.0)
    path = walk(LaProp([p], lr=0.1, warmup=0, agc=0), p, GRADS)
    assert path == pytest.approx([-0.1, -0.08080414, -0.08263966, -0.14058939], abs=1e-6)


def test_adam_walks_elsewhere():
    p = parameter(0.0)
    path = walk(torch.optim.Adam([p], lr=0.1, eps=1e-20), p, GRADS)
    assert path == pytest.approx([-0.1, -0.06338965, -0.04972058, -0.10387036], abs=1e-6)


def test_laprop_ignores_the_scale_of_the_gradient():
    paths = []
    for scale in (1.0, 1e-6, 1e6):
        p = parameter(0.0)
        paths.append(walk(LaProp([p], 0.1, 0, 0), p, [scale * g for g in GRADS]))
    assert paths[1] == pytest.approx(paths[0], abs=1e-6)
    assert paths[2] == pytest.approx(paths[0], abs=1e-6)


@pytest.mark.parametrize(
    "p, g, expected",
    [
        ([3.0, 4.0], [6.0, 8.0], [0.9, 1.2]),
        ([0.0, 0.0], [6.0, 8.0], [1.8e-4, 2.4e-4]),
        ([3.0, 4.0], [0.6, -0.8], [0.6, -0.8]),
        ([3.0, 4.0], [0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_agc_fixture(p, g, expected):
    params = [parameter(*p)]
    (clipped,) = clip(params, [torch.tensor(g)], 0.3)
    torch.testing.assert_close(clipped, torch.tensor(expected), atol=1e-7, rtol=1e-5)


def test_agc_clips_each_tensor_by_its_own_norm():
    params = [parameter(3.0, 4.0), parameter(0.0, 0.0)]
    clipped = clip(params, [torch.tensor([6.0, 8.0])] * 2, 0.3)
    torch.testing.assert_close(clipped[0], torch.tensor([0.9, 1.2]))
    torch.testing.assert_close(clipped[1], torch.tensor([1.8e-4, 2.4e-4]))


def test_step_clips_before_it_normalises():
    clipped, free = parameter(3.0, 4.0), parameter(3.0, 4.0)
    one, two = LaProp([clipped], 0.1, 0, agc=0.3), LaProp([free], 0.1, 0, agc=0)
    for g in ([6.0, 8.0], [0.1, -0.1]):
        clipped.grad = torch.tensor(g)
        (free.grad,) = clip([clipped], [torch.tensor(g)], 0.3)
        one.step()
        two.step()
        torch.testing.assert_close(clipped, free)


def test_the_learning_rate_warms_up_from_zero_in_a_straight_line():
    p = parameter(0.0)
    path = walk(LaProp([p], lr=0.1, warmup=4, agc=0), p, [1.0] * 7)
    steps = [a - b for a, b in zip([0.0, *path], path, strict=False)]
    assert steps == pytest.approx([0, 0.025, 0.05, 0.075, 0.1, 0.1, 0.1], abs=1e-6)


def test_slower_parameters_walk_the_same_path_in_smaller_steps():
    fast, slow = parameter(0.0), parameter(0.0)
    optimiser = LaProp([{"params": [fast]}, {"params": [slow], "lr": 0.025}], 0.1, 0, 0)
    for g in GRADS:
        fast.grad, slow.grad = torch.full((1,), g), torch.full((1,), g)
        optimiser.step()
        assert slow.item() == pytest.approx(fast.item() / 4, abs=1e-7)


def test_there_is_no_weight_decay():
    p = parameter(5.0)
    assert walk(LaProp([p], 0.1, 0), p, [0.0] * 3) == [5.0] * 3


def test_a_step_leaves_gradients_to_their_owner():
    p = parameter(1.0)
    optimiser = LaProp([p], 0.1)
    walk(optimiser, p, [1.0])
    assert p.grad.item() == 1
    optimiser.zero_grad()
    assert p.grad is None


def test_it_is_an_optimiser_like_others():
    p = parameter(0.0)
    optimiser = LaProp([p], 0.1, warmup=0, agc=0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 0.5**epoch)

    def closure():
        optimiser.zero_grad()
        loss = (3 * p).sum()
        loss.backward()
        return loss

    assert optimiser.step(closure).item() == 0 and p.item() == pytest.approx(-0.1)
    scheduler.step()
    before = p.item()
    optimiser.step(closure)
    assert p.item() - before == pytest.approx(-0.05, rel=1e-4)


def test_a_parameter_without_gradient_stays_where_it_is():
    p = parameter(0.0)
    optimiser = LaProp([p], 0.1, 0, 0)
    before = walk(optimiser, p, GRADS)[-1]
    optimiser.zero_grad()
    optimiser.step()
    assert p.item() == before


def test_the_first_step_of_a_parameter_has_the_size_of_the_learning_rate_whenever_it_comes():
    early, late = parameter(0.0), parameter(0.0)
    optimiser = LaProp([early, late], 0.1, 0, 0)
    walk(optimiser, early, [1.0] * 200)
    optimiser.zero_grad()
    assert walk(optimiser, late, [3.0]) == pytest.approx([-0.1], abs=1e-4)


def test_a_restored_optimiser_goes_on_as_if_never_stopped():
    one, two = parameter(1.0, 2.0), parameter(1.0, 2.0)
    first, second = LaProp([one], 0.1, warmup=3), LaProp([two], 0.1, warmup=3)
    for i, g in enumerate([[1.0, 0.3], [-2.0, 4.0], [0.5, 0.5], [3.0, -1.0]]):
        if i == 2:
            saved = copy.deepcopy(first.state_dict())
            with torch.no_grad():
                two.copy_(one)
            second.load_state_dict(saved)
        one.grad, two.grad = torch.tensor(g), torch.tensor(g)
        first.step()
        if i >= 2:
            second.step()
    assert torch.equal(one, two)
    assert second.state[two]["step"] == 4
