"""Start JupyterLab with the flags of the Makefile, for the tests that need a real server."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def flags() -> list[str]:
    """What `make lab` passes to JupyterLab."""
    recipe = re.search(r"-m jupyterlab (.*?)\$\(LAB_ARGS\)", (ROOT / "Makefile").read_text(), re.S)
    return recipe[1].replace("\\\n", " ").split()


@contextlib.contextmanager
def lab_server(course: Path, runtime: Path, *more: str, **env: str) -> Iterator[dict]:
    """A server of this course folder, ready to answer; yields its url, token, hostname and port."""
    more = (*more, "--no-browser", "--allow-root", "--ServerApp.port_retries=50")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *flags(), *more],
        cwd=course,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime), **env},
    )
    try:
        for _ in range(240):
            found = list(runtime.glob(f"jpserver-{process.pid}.json"))
            if found and found[0].stat().st_size:
                about = json.loads(found[0].read_text())
                break
            assert process.poll() is None, "the server did not start"
            time.sleep(0.25)
        for _ in range(40):
            try:
                urllib.request.urlopen(f"{about['url']}api", timeout=10).close()
                break
            except urllib.error.URLError:
                time.sleep(0.25)
        yield about
    finally:
        process.terminate()
        process.wait(60)  # it shuts its kernels down first
