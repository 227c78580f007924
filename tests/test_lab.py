"""`make lab` serves JupyterLab on this machine only, behind its token."""

import socket
import urllib.error
import urllib.request

import pytest
from lab_server import ROOT, lab_server


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server of the course's notebooks: its url, token, hostname and port."""
    with lab_server(ROOT / "notebooks", tmp_path_factory.mktemp("runtime")) as about:
        yield about


def test_nobody_gets_in_without_the_token(lab):
    assert status(f"{lab['url']}api/contents") == 403
    assert len(lab["token"]) >= 32


def test_the_token_opens_the_notebooks(lab):
    assert status(f"{lab['url']}api/contents?token={lab['token']}") == 200
    assert status(f"{lab['url']}lab/tree/11_full_agent.ipynb?token={lab['token']}") == 200


def test_it_listens_on_loopback_only(lab):
    assert lab["hostname"] == "127.0.0.1"
    with socket.socket() as other:  # another address of this machine: nobody answers there
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", lab["port"])) != 0
