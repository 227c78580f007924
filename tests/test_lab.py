"""`make lab` serves the course on this machine only, behind its token, with all that it links to."""

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

import pytest
from lab_server import ROOT, flags, lab_server


def fetch(url: str) -> tuple[int, str, bytes]:
    """Status, final address and body of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.url, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.url, b""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server of the course: its url, token, hostname and port."""
    with lab_server(ROOT, tmp_path_factory.mktemp("runtime")) as about:
        yield about


def test_nobody_gets_in_without_the_token(lab):
    assert fetch(f"{lab['url']}api/contents")[0] == 403
    assert len(lab["token"]) >= 32


def test_the_token_opens_the_first_notebook(lab):
    status, url, _ = fetch(f"{lab['url']}?token={lab['token']}")
    assert status == 200 and url.partition("?")[0].endswith("/lab/tree/notebooks/00_why_dream.ipynb")
    status, _, body = fetch(f"{lab['url']}api/contents/notebooks?content=0&token={lab['token']}")
    assert status == 200 and json.loads(body)["type"] == "directory"


def test_what_notebooks_link_to_is_inside(lab):
    status, _, body = fetch(f"{lab['url']}files/imgs/curtain_dream.gif?token={lab['token']}")
    assert status == 200 and body == (ROOT / "imgs/curtain_dream.gif").read_bytes()


def test_it_listens_on_loopback_only(lab):
    assert lab["hostname"] == "127.0.0.1"
    with socket.socket() as other:  # another address of this machine: nobody answers there
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", lab["port"])) != 0


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_lab_works_from_elsewhere_in_a_folder_with_spaces(tmp_path):
    course = tmp_path / "my courses"
    (course / "venv").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, course)
    command = ["make", "-n", "-C", course, "lab", "LAB_ARGS=--allow-root", "VENV=venv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = done.stdout.replace("\\\n", " ").split()
    begin = words.index("jupyterlab") + 1
    assert words[begin : begin + len(flags()) + 1] == [*flags(), "--allow-root"]
