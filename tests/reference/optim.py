"""LaProp with adaptive gradient clipping: one list of numbers for each tensor.

A tensor without gradient (None) is left alone, its count of updates included.
"""

import math


def length(values):
    return math.sqrt(sum(v * v for v in values))


def clip(parameter, grad, agc):
    if agc == 0:
        return list(grad)
    divisor = max(1.0, length(grad) / (agc * max(1e-3, length(parameter))))
    return [g / divisor for g in grad]


class LaProp:
    """Parameters and their moments."""

    def __init__(self, parameters, lr, warmup=1000, agc=0.3):
        self.parameters = [list(p) for p in parameters]
        self.lr, self.warmup, self.agc = lr, warmup, agc
        self.size = [[0.0] * len(p) for p in parameters]  # nu
        self.average = [[0.0] * len(p) for p in parameters]  # m
        self.updates = [0 for _ in parameters]  # n

    def step(self, grads):
        for i, grad in enumerate(grads):
            if grad is not None:
                self.update(i, clip(self.parameters[i], grad, self.agc))

    def update(self, i, grad):
        n = self.updates[i]
        lr = self.lr * min(1, n / self.warmup) if self.warmup else self.lr
        t = n + 1
        for j, g in enumerate(grad):
            nu = 0.999 * self.size[i][j] + 0.001 * g * g
            u = g / (math.sqrt(nu / (1 - 0.999**t)) + 1e-20)
            m = 0.9 * self.average[i][j] + 0.1 * u
            self.parameters[i][j] -= lr * m / (1 - 0.9**t)
            self.size[i][j], self.average[i][j] = nu, m
        self.updates[i] = t
