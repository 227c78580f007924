"""`make lab` serves the whole course on this machine only, behind its token."""

import importlib.util
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
    own = {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path_factory.mktemp("settings"))}
    with lab_server(ROOT, tmp_path_factory.mktemp("runtime"), **own) as about:
        yield about


spec = importlib.util.spec_from_file_location("lab", ROOT / "lab/__init__.py")
spec.loader.exec_module(extension := importlib.util.module_from_spec(spec))


def notebook(shown: list[str], states: dict[str, list[str]]) -> dict:
    """A notebook with these views, and these states with their children."""
    bundles = [{extension.VIEW: {"model_id": name}, "image/png": name} for name in shown]
    outputs = [{"output_type": "stream", "text": ""}]
    outputs += [{"output_type": "display_data", "data": bundle} for bundle in bundles]
    state = {
        name: {"state": {"title": "IPY", "children": [f"IPY_MODEL_{c}" for c in children]}}
        for name, children in states.items()
    }
    return {
        "cells": [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": outputs}],
        "metadata": {"widgets": {extension.STATE: {"state": state}}},
    }


def kept(new: dict, before: dict) -> tuple[set[str], list[str]]:
    """Which states and which views a save keeps."""
    extension.keep_widgets(new, before)
    outputs = [output.get("data", {}) for output in new["cells"][1]["outputs"]]
    assert len(outputs) == 1 + sum("image/png" in data for data in outputs)  # pictures all stay
    views = [data[extension.VIEW]["model_id"] for data in outputs if extension.VIEW in data]
    return set(extension.widget_states(new)), views


def test_a_save_keeps_the_widgets_that_are_shown_with_all_their_parts():
    live = notebook(["a"], {"a": ["b", "gone"], "b": ["c"], "c": ["a"], "old": ["c"]})
    assert kept(live, {}) == ({"a", "b", "c"}, ["a"])
    idle = notebook(["a"], {})  # saved by a session that did not run it
    assert kept(idle, live) == ({"a", "b", "c"}, ["a"])
    again = notebook(["a", "x"], {"x": []})  # some of it was run again
    assert kept(again, idle) == ({"a", "b", "c", "x"}, ["a", "x"])


def test_a_widget_without_a_state_becomes_its_picture():
    new = notebook(["a", "b"], {"b": []})
    assert kept(new, {"metadata": {}}) == ({"b"}, ["b"])
    bare = notebook(["a"], {})
    assert kept(bare, {}) == (set(), []) and bare["metadata"] == {}


def test_nobody_gets_in_without_the_token(lab):
    assert fetch(f"{lab['url']}api/contents")[0] == 403
    assert len(lab["token"]) >= 32


def test_the_token_opens_the_first_notebook(lab):
    status, url, _ = fetch(f"{lab['url']}?token={lab['token']}")
    first = f"{lab['url']}lab/tree/notebooks/00_why_dream.ipynb"
    assert status == 200 and url.partition("?")[0] == first
    status, _, body = fetch(f"{lab['url']}api/contents/notebooks?content=0&token={lab['token']}")
    assert status == 200 and json.loads(body)["type"] == "directory"


def test_what_notebooks_link_to_is_inside(lab):
    status, _, body = fetch(f"{lab['url']}files/imgs/curtain_dream.gif?token={lab['token']}")
    assert status == 200 and body == (ROOT / "imgs/curtain_dream.gif").read_bytes()


def test_widgets_are_saved_with_their_last_picture(lab):
    plugin = "@jupyter-widgets/jupyterlab-manager:plugin"
    status, _, body = fetch(f"{lab['url']}lab/api/settings/{plugin}?token={lab['token']}")
    settings = json.loads(body)
    assert status == 200 and settings["schema"]["properties"]["saveState"]["default"] is True
    assert settings["settings"] == {}  # a default: what a reader has chosen would stand here


def test_the_server_tidies_widgets_when_it_saves(tmp_path):
    shutil.copytree(ROOT / "lab", tmp_path / "lab")
    with lab_server(tmp_path, tmp_path) as about:
        for states in ({"a": [], "b": []}, {}):  # the kernel is alive, then it is not
            book = {**notebook(["a"], states), "nbformat": 4, "nbformat_minor": 5}
            book["cells"] = [
                {
                    "cell_type": "code",
                    "id": "x",
                    "metadata": {},
                    "source": "",
                    "outputs": [
                        {"output_type": "display_data", "metadata": {}, "data": output["data"]}
                        for output in book["cells"][1]["outputs"][1:]
                    ],
                    "execution_count": None,
                }
            ]
            request = urllib.request.Request(
                f"{about['url']}api/contents/a%20b.ipynb?token={about['token']}",
                method="PUT",
                data=json.dumps({"type": "notebook", "content": book}).encode(),
            )
            urllib.request.urlopen(request, timeout=10).close()
            stored = json.loads((tmp_path / "a b.ipynb").read_text())
            assert set(extension.widget_states(stored)) == {"a"}


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
