"""Exercises of notebook 03: the gate, its bias, Jacobians, blocks, and what a wipe costs."""

import itertools
import math

import numpy as np
import torch

from wmlib.checks.exercises import Wrong, array, exercise, number, require
from wmlib.envs.curtain import START_LANES, Scene, draw_frames, make_rules
from wmlib.rssm import RecurrentCore


@exercise("03.1")
def one_gated_step(gate_step):
    """DreamerV3's gate, against several near misses."""
    r, c, u, h = (2 * torch.randn(4, 5) for _ in range(4))
    sig, tanh = torch.sigmoid, torch.tanh
    update = sig(u - 1)
    candidate = tanh(sig(r) * c)
    found = array(gate_step(r, c, u, h), (4, 5), "the new h")

    def gives(values: torch.Tensor) -> bool:
        return bool(np.allclose(found, values.numpy(), atol=1e-4))

    require(
        not gives((1 - update) * candidate + update * h),
        "The gate u is the part that is overwritten: it belongs to the candidate, and "
        "1 - u to the old h.",
    )
    plain = sig(u)
    require(
        not gives(plain * candidate + (1 - plain) * h),
        "The update gate is σ(u - 1): without the -1 half of h is overwritten by default.",
    )
    outside = sig(r) * tanh(c)
    require(
        not gives(update * outside + (1 - update) * h),
        "The reset gate stands inside the tanh: squash r · c, not c alone.",
    )
    raw = tanh(r * c)
    require(
        not gives(update * raw + (1 - update) * h),
        "Your r comes straight from a linear layer; it becomes a gate by σ(r).",
    )
    require(
        gives(update * candidate + (1 - update) * h),
        "Compute three lines in order: c = tanh(σ(r) c), u = σ(u - 1), h' = u c + (1 - u) h.",
    )
    fixture = [torch.tensor([v]) for v in (0.5, 1.0, 0.2, 0.3)]
    return f"0.5, 1, 0.2, 0.3 gives {number(gate_step(*fixture)):.6f}."


@exercise("03.2")
def bias_of_a_half_life(bias_for):
    """The bias b with (1 - sigmoid(b)) ** steps = 1/2."""
    for steps in (1, 2, 10, 100):
        found = number(bias_for(steps), f"the bias for {steps} steps")
        kept = 1 - 1 / (1 + math.exp(-min(max(found, -50), 50)))
        left = kept**steps
        report = f"With bias {found:.3f}, after {steps} steps {left:.3f} is left, not 0.5. "
        rate = 1 - 0.5 ** (1 / steps)
        require(
            abs(found - rate) > 1e-3,
            report + "That is the share overwritten per step; which bias makes a sigmoid give it?",
        )
        require(
            abs(found + math.log(rate / (1 - rate))) > 1e-3 or abs(found) < 1e-3,
            report + "The sign is wrong: to keep more, the update gate has to be more closed.",
        )
        require(abs(left - 0.5) < 1e-3, report + "Each step keeps 1 - σ(bias) of h.")
    return f"100 steps need a bias of {bias_for(100):.2f}."


@exercise("03.3")
def product_of_jacobians(jacobian):
    """Against autograd, for matrices without symmetry."""
    size = 5
    W = torch.randn(size, size)
    start = 0.5 * torch.randn(size)

    def run(h: torch.Tensor, steps: int) -> torch.Tensor:
        for _ in range(steps):
            h = torch.tanh(h @ W)
        return h

    for steps in (0, 1, 2, 4):
        truth = torch.autograd.functional.jacobian(lambda h, n=steps: run(h, n), start).numpy()
        found = array(jacobian(W.clone(), start.clone(), steps), (size, size), "the Jacobian")
        if steps == 0:
            require(
                np.allclose(found, truth, atol=1e-4),
                "After 0 steps h is unchanged, so its Jacobian is the identity.",
            )
            continue
        require(
            not np.allclose(found, truth.T, atol=1e-4),
            "This is the transpose: row i belongs to output i, column j to input j.",
        )
        linear = torch.matrix_power(W.T, steps).numpy()
        require(
            not np.allclose(found, linear, atol=1e-4),
            "The slope of the tanh, 1 - h'², is missing from the product.",
        )
        right = "One step is right. " if steps > 1 else ""
        require(
            np.allclose(found, truth, atol=1e-4),
            right + f"After {steps} step(s) it differs from autograd: newest step on the left, "
            "and each slope taken at the h after its own step.",
        )
    return "Equal to autograd's."


@exercise("03.4")
def weights_of_the_block_layers(count):
    """Against the layers themselves."""
    for deter, hidden, blocks in ((64, 16, 8), (64, 16, 1), (96, 8, 4), (128, 96, 8)):
        core = RecurrentCore(deter, 6, 3, hidden, blocks)
        mix, gates = core.mix.weight.numel(), core.gates.weight.numel()
        found = number(count(deter, hidden, blocks), "the number of weights")
        report = f"For D = {deter}, U = {hidden}, g = {blocks} there are {mix + gates}. "
        dense = deter * (deter + 3 * hidden) + 3 * deter**2
        require(
            found != dense or blocks == 1,
            report + f"You get {found:.0f}, the count of dense layers: each block sees D/g units.",
        )
        once = deter * deter // blocks + 3 * hidden * deter // blocks + gates
        require(
            found != once or blocks == 1,
            report + "Every block has its own weights for all 3U numbers of the summary.",
        )
        require(found != gates, report + "These are the gates alone; mix is missing.")
        require(
            found == mix + gates,
            report + f"You get {found:.0f}; mix has {mix} and gates has {gates}.",
        )
    double = count(4096, 256, 8) / count(2048, 256, 8)
    return f"Doubling D from 2048 multiplies the weights by {double:.1f}."


def _suffering(wiped: int) -> list[int]:
    """Frames after a wipe that are less certain given the frames since than given all of them.

    The model does not know the time: runs of frames from anywhere in an episode count alike.
    """
    rules = make_rules()
    lane, side = (v.ravel() for v in np.meshgrid(START_LANES, rules.offsets))
    zeros = np.zeros_like(lane)  # the paddle stands still in lane 0
    films = [draw_frames(rules, Scene(zeros + t, lane, side, zeros)) for t in range(8)]
    films = [[frame.tobytes() for frame in film] for film in zip(*films, strict=True)]
    worse = []
    for t in range(wiped + 1, 8):
        span = t - wiped
        more = False
        for film in films:
            full = {other[t] for other in films if other[:t] == film[:t]}
            recent = {
                other[s + span]
                for other, s in itertools.product(films, range(8 - span))
                if other[s : s + span] == film[wiped:t]
            }
            more |= len(recent) > len(full)
        worse += [t] if more else []
    return worse


@exercise("03.5")
def what_a_wipe_costs(answer):
    """Enumerated from the films of all episodes."""
    require(len(answer) == 2, "Two lists are needed: harmless and suffering.")
    lists = []
    for value, name in zip(answer, ("harmless", "suffering"), strict=True):
        if isinstance(value, (int, float, str)):
            raise Wrong(f"Your {name} should be a list of whole numbers, such as [1, 2].")
        lists.append(sorted({int(v) for v in array(list(value), what=name)}))
    harmless, suffering = lists
    truth = [w for w in range(7) if not _suffering(w)]
    for w in range(7):
        if w in truth and w not in harmless:
            reason = "h is empty anyway" if w == 0 else f"frame {w} itself shows the ball"
            raise Wrong(
                f"About harmless: a wipe before frame {w} is taken in costs nothing, as {reason}."
            )
        if w not in truth and w in harmless:
            raise Wrong(
                f"About harmless: frame {w} shows a curtain and no ball; a memory that begins "
                "there has lost the lane."
            )
    require(max(harmless) <= 6, "About harmless: the last frame that is taken in is frame 6.")
    want = _suffering(2)
    require(
        suffering != [4],
        "About suffering: frame 4 is one, but who has seen a single curtain does not know either "
        "whether the ball comes out in the next frame.",
    )
    require(2 not in suffering, "About suffering: frame 2 was predicted before the wipe.")
    require(
        max(suffering, default=0) < 5,
        "About suffering: frame 4 shows the ball again, so frames from 5 on are as easy as before.",
    )
    require(
        suffering == want, "About suffering: which frames follow the wipe before the ball is seen?"
    )
    return "What the last frame shows need not be remembered."
