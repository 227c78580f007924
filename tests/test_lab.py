"""`make lab` serves JupyterLab on this machine only, behind its token."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server started with the flags of the Makefile, as (address, token)."""
    recipe = re.search(r"-m jupyterlab (.*) \$\(LAB_ARGS\)", (ROOT / "Makefile").read_text())[1]
    runtime = tmp_path_factory.mktemp("runtime")
    flags = [*recipe.split(), "--no-browser", "--allow-root", "--ServerApp.port_retries=50"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *flags],
        cwd=ROOT / "notebooks", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime)},
    )  # fmt: skip
    try:
        for _ in range(240):
            found = list(runtime.glob("jpserver-*.json"))
            if found and found[0].stat().st_size:
                about = json.loads(found[0].read_text())
                break
            assert process.poll() is None, "the server did not start"
            time.sleep(0.25)
        yield about
    finally:
        process.terminate()
        process.wait(20)


def test_nobody_gets_in_without_the_token(lab):
    for _ in range(40):
        try:
            code = status(f"{lab['url']}api/contents")
            break
        except urllib.error.URLError:
            time.sleep(0.25)
    assert code == 403
    assert len(lab["token"]) >= 32


def test_the_token_opens_the_notebooks(lab):
    assert status(f"{lab['url']}api/contents?token={lab['token']}") == 200
    assert status(f"{lab['url']}lab/tree/11_full_agent.ipynb?token={lab['token']}") == 200


def test_it_listens_on_loopback_only(lab):
    assert lab["hostname"] == "127.0.0.1"
    with socket.socket() as other:  # another address of this machine: nobody answers there
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", lab["port"])) != 0
