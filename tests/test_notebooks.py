"""What nbval does not check: that notebooks were executed, in order, and are built alike."""

import ast
import copy
import json
import re
import statistics
from pathlib import Path
from urllib.parse import unquote

import course
import nbformat
import pytest
from course import (
    NOTEBOOKS,
    code,
    code_cells,
    lines_of,
    markdown,
    prose,
    sample_exercise,
    source,
    tags,
)
from store_notebooks import clean

LONGEST, MEDIAN, BYTES = 45, 7, 1_500_000
LOCAL = re.compile(r"(/(tmp|root|home|Users|work)/|[A-Z]:\\\\|at 0x[0-9a-f]{6,})")
WRITTEN = re.compile(r"(?<![\w.:/-])/(tmp|root|home|Users|work)/|\b[A-Z]:\\[A-Za-z]")
TAG = re.compile(
    r"(export|equiv):wmlib(\.\w+)+|nbval-ignore-output|exercise|check|setup|remove-(input|output)"
)
CELL_ID = re.compile(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*")
SENTENCE = re.compile(r"[A-Z0-9].{15,}[.?]", re.S)
SHOUT = re.compile(r"[A-Za-z]!(\s|$)|[\U0001F000-\U0001FAFF\u2600-\u26FF\u2705\u274C]")

# Rules that a notebook does not keep yet, and why.
EXEMPT: dict[str, dict[str, str]] = {}


def faults(notebook: dict) -> list[str]:
    """Hygiene: all that is wrong with how a notebook is stored, as sentences."""
    found, cells = [], code_cells(notebook)
    if [c["execution_count"] for c in cells] != list(range(1, len(cells) + 1)):
        found.append("cells are not executed 1..n in order")
    for number, cell in enumerate(cells, 1):
        lines = [line for line in source(cell).splitlines() if line.strip()]
        if len(lines) > LONGEST:
            found.append(f"cell {number} has {len(lines)} lines")
        if any(line.lstrip().startswith(("!", "%pip", "%%bash")) for line in lines):
            found.append(f"cell {number} runs a shell")
        if any(o["output_type"] == "error" for o in cell["outputs"]):
            found.append(f"cell {number} holds an error")
        if any(o.get("name") == "stderr" for o in cell["outputs"]):
            found.append(f"cell {number} wrote to stderr")
        shown = [{k: v for k, v in o.items() if k != "data"} for o in cell["outputs"]]
        texts = [o.get("data", {}).get("text/plain", "") for o in cell["outputs"]]
        if LOCAL.search(json.dumps([shown, texts])) or WRITTEN.search(source(cell)):
            found.append(f"cell {number} shows a path or an address of one machine")
        if "image/svg+xml" in json.dumps(cell["outputs"]):
            found.append(f"cell {number} shows an SVG")
        if "widget-view" in json.dumps(cell["outputs"]):
            found.append(f"cell {number} stores a widget without its state")
        found += [f"cell {number} has the tag {t}" for t in tags(cell) if not TAG.fullmatch(t)]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and WRITTEN.search(source(cell)):
            found.append(f"text {cell.get('id')} names a path of one machine")
    if "widgets" in notebook["metadata"]:
        found.append("widget state is stored")
    return found


def opening_faults(notebook: dict, number: str) -> list[str]:
    """The first cell: title, claim, time, what comes before, four to six objectives."""
    if not notebook["cells"] or notebook["cells"][0]["cell_type"] != "markdown":
        return ["the first cell is no text"]
    text, found = source(notebook["cells"][0]), []
    bullets = re.findall(r"^[-*] (.*)", text, re.M)
    verbs = [re.match(r"\*{0,2}[A-Za-z]+", bullet) for bullet in bullets]
    wanted = {
        f"its title does not start with '# {number} · '": re.match(f"# {number} · \\S", text),
        "it makes no **claim**": re.search(r"\*\*Claim\.?\*\*", text, re.I),
        "it does not tell the time to run": re.search(r"\btime\b.*(minute|second)", text, re.I),
        "it does not tell what comes before": re.search(r"before this|prerequisite", text, re.I),
        f"it has {len(bullets)} objectives, not 4 to 6": 4 <= len(bullets) <= 6,
        "an objective does not start with a word": all(verbs),
    }
    found += [f"in the first cell, {fault}" for fault, kept in wanted.items() if not kept]
    setup = "\n".join(source(c) for c in code_cells(notebook)[:3])
    if "torch.__version__" not in setup:
        found.append("no versions are printed at the start")
    if f'progress("{number}")' not in setup:
        found.append("no progress is printed at the start")
    return found


def closing_faults(notebook: dict) -> list[str]:
    """The end: what we now know, what is missing, something to read and to try."""
    text = "\n".join(prose(notebook)[-3:])
    wanted = {
        "what we now know": r"now know",
        "what is still missing": r"missing",
        "what to read": r"read (on|further)|further reading",
        "what to try": r"try it yourself",
    }
    return [
        f"the end does not say {what}"
        for what, pattern in wanted.items()
        if not re.search(pattern, text, re.I)
    ]


def map_faults(notebook: dict) -> list[str]:
    """The map of the agent, near the start."""
    early = code_cells(notebook)[:6]
    return [] if any("agent_map(" in source(c) for c in early) else ["there is no map at the start"]


def calls(cell: dict, name: str) -> list[ast.Call]:
    """Calls of a function in a code cell."""
    nodes = ast.walk(ast.parse(course.python(cell)))
    return [n for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "id", "") == name]


def guess_faults(notebook: dict, number: str) -> list[str]:
    """Guesses are asked for before they are revealed, and a stored answer is folded."""
    found, begin, end = [], {}, {}
    for at, cell in enumerate(code_cells(notebook)):
        for call in calls(cell, "guess"):
            key = ast.literal_eval(call.args[0])
            begin.setdefault(key, at)
            limits = {word.arg for word in call.keywords} & {"low", "high", "choices"}
            if len(call.args) > 1 or limits not in ({"low", "high"}, {"choices"}, set()):
                found.append(f"the guess {key} is made already, or has half of its limits")
        for call in calls(cell, "reveal"):
            end.setdefault(ast.literal_eval(call.args[0]), at)
            if not cell["metadata"].get("jupyter", {}).get("outputs_hidden"):
                found.append(f"the output of {cell['id']}, which reveals a guess, is not folded")
    found += [] if begin else ["nothing is guessed"]
    found += [f"{key} is not revealed" for key in begin if key not in end]
    found += [f"{key} is not guessed" for key in end if key not in begin]
    found += [
        f"{key} is revealed before it is guessed" for key in end if end[key] < begin.get(key, 0)
    ]
    named = re.compile(rf"{number}\.\w[\w-]*")
    return found + [f"{k} is not called '{number}.word'" for k in begin if not named.fullmatch(k)]


def exercise_faults(notebook: dict, number: str) -> list[str]:
    """Three to five exercises (any number in 11), well formed, numbered 1, 2, 3 ..."""
    tasks = course.exercises(notebook)
    found = [fault for task in tasks for fault in task.faults]
    keys = [task.key for task in tasks if task.key]
    if keys != [f"{number}.{k + 1}" for k in range(len(keys))]:
        found.append(f"exercises are numbered {keys}")
    if not 3 <= len(keys) <= 5 and number != "11":
        found.append(f"there are {len(keys)} exercises, not 3 to 5")
    return found


def alt_faults(notebook: dict) -> list[str]:
    """Every picture has a sentence that stands in for it."""
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        for data in (o.get("data", {}) for o in cell["outputs"]):
            if any(kind.startswith("image/") for kind in data):
                alt = "".join(data.get("text/plain", ""))
                if not SENTENCE.fullmatch(alt.strip()):
                    found.append(f"the picture of cell {number} has no sentence, but '{alt}'")
    for text in prose(notebook):
        found += [
            f"the image {link} has no alt text" for link in re.findall(r"!\[\s*\]\((.*?)\)", text)
        ]
        for image in re.findall(r"<img\b[^>]*>", text):
            if not re.search(r"alt=[\"'][^\"']{5,}", image):
                found.append(f"{image} has no alt text")
    return found


def fold_faults(notebook: dict) -> list[str]:
    """Imports are folded, and besides them only code that draws or reads the clock."""
    found = []
    for cell in code_cells(notebook):
        folded, labels = cell["metadata"].get("jupyter", {}).get("source_hidden"), tags(cell)
        if "torch.__version__" in source(cell) and not folded:
            found.append(f"the imports of {cell['id']} are not folded")
        teaches = {"exercise", "check"}.intersection(labels) or any(":" in tag for tag in labels)
        if folded and teaches:
            found.append(f"the code of {cell['id']} is folded, but should be read")
        if folded and any(calls(cell, name) for name in ("guess", "reveal", "expect")):
            found.append(f"{cell['id']} is folded, but does more than draw")
    return found


def size_faults(notebook: dict) -> list[str]:
    """Small cells."""
    lines = [lines_of(cell) for cell in code_cells(notebook)]
    middle = statistics.median(lines) if lines else 0
    return [f"half of the code cells have {middle} lines or more"] if middle > MEDIAN else []


def id_faults(notebook: dict) -> list[str]:
    """Cell ids are words, each its own."""
    ids = [cell.get("id", "") for cell in notebook["cells"]]
    found = [f"the cell id {name} is no word" for name in ids if not CELL_ID.fullmatch(name)]
    found += [
        f"the cell id {n} looks random" for n in ids if re.fullmatch(r"(?=.*\d)[0-9a-f]{8}", n)
    ]
    found += [f"the cell id {name} is used twice" for name in {n for n in ids if ids.count(n) > 1}]
    return found


def tone_faults(notebook: dict) -> list[str]:
    """Calm prose."""
    found = []
    for text in prose(notebook):
        plain = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", "", text, flags=re.S)
        found += [f"'{text[:30]}' shouts or has an emoji"] if SHOUT.search(plain) else []
    return found


LINK = re.compile(r"\[([^\[\]]*)\]\(([^()\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`|^#+ [^\n]*$", re.S | re.M)
PLAIN = re.compile(
    r"notebooks?(?: from)?\s+\d\d|§(?: \(\w+\))?(?:–|,| and| to| or)\s?(?:0\d|1[01])\b", re.I
)


def link_faults(notebook: dict, title: str) -> list[str]:
    """Notebooks are named by links, links lead somewhere, and the next notebook is one of them."""
    found, headings, texts = [], {title: course.anchors(notebook)}, prose(notebook)
    for text in texts:
        bare = CODE.sub("", text)
        for _, target in LINK.findall(bare):
            path, _, anchor = unquote(target).partition("#")
            if re.match(r"https?://|mailto:", target):
                continue
            if path and not (course.ROOT / "notebooks" / path).exists():
                found.append(f"{target} leads nowhere")
            elif anchor and (not path or path.endswith(".ipynb")):
                name = path.removesuffix(".ipynb") or title
                if name not in headings:
                    headings[name] = course.anchors(course.load(NOTEBOOKS[0].with_name(path)))
                if anchor not in headings[name]:
                    found.append(f"{target} has no such heading")
        for plain in PLAIN.findall(LINK.sub("§", bare)):
            found.append(f"'{plain}' is no link")
    for where, text in (("top", texts[0]), ("bottom", texts[-1])) if texts else ():
        for name in neighbours(title):
            if not re.search(rf"^.*\[{name[:2]} · [^\]]+\]\({name}\.ipynb\).*$", text, re.M):
                found.append(f"there is no link to {name} at the {where}")
    return found


def neighbours(title: str) -> list[str]:
    """The notebooks before and after this one."""
    names = [path.stem for path in NOTEBOOKS]
    at = names.index(title)
    return names[max(0, at - 1) : at] + names[at + 1 : at + 2]


def anatomy(notebook: dict, number: str) -> dict[str, list[str]]:
    """Faults by rule."""
    return {
        "opening": opening_faults(notebook, number),
        "map": map_faults(notebook),
        "guess": guess_faults(notebook, number),
        "exercises": exercise_faults(notebook, number),
        "closing": closing_faults(notebook),
        "alt": alt_faults(notebook),
        "folds": fold_faults(notebook),
        "size": size_faults(notebook),
        "ids": id_faults(notebook),
        "tone": tone_faults(notebook),
        "links": link_faults(notebook, next(p.stem for p in NOTEBOOKS if p.stem[:2] == number)),
    }


# ---------------------------------------------------------------- the notebooks of the course


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_is_clean(path):
    assert faults(course.load(path)) == []
    assert path.stat().st_size <= BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_built_like_the_others(path):
    excused = EXEMPT.get(path.stem, {})
    found = anatomy(course.load(path), path.stem[:2])
    faults = [f"{rule}: {f}" for rule, all_ in found.items() if rule not in excused for f in all_]
    assert faults == []
    idle = [rule for rule in excused if not found[rule]]
    assert idle == [], "these rules are kept now: take them out of EXEMPT"


def test_there_are_notebooks():
    assert NOTEBOOKS and set(EXEMPT) <= {path.stem for path in NOTEBOOKS}
    numbers = [path.stem[:2] for path in NOTEBOOKS]
    assert len(set(numbers)) == len(numbers)


# ---------------------------------------------------------------- and if one were not?


def picture(alt: str) -> dict:
    data = {"image/png": "iVBO", "text/plain": alt}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def model(number: str = "01") -> dict:
    """A notebook that keeps every rule."""
    title = next(path.stem for path in NOTEBOOKS if path.stem[:2] == number)
    way = " · ".join(f"[{name[:2]} · Title]({name}.ipynb)" for name in neighbours(title))
    opening = (
        f"# {number} · The world\n\n{way}\n\n**Claim.** It is small.\n\n"
        "*Time to run: 20 seconds. Before this: [notebook 00](00_why_dream.ipynb).*\n\n"
        "- **see** it;\n- **step** it;\n- **store** it;\n- **count** it."
    )
    picture_text = (
        "![Alt text](../imgs/WM_training.png)\n\nA `list!` of it, as in [notebook "
        "06](06_losses.ipynb#Free-bits), notebooks [03](03_gru_state.ipynb) and "
        "[04](04_stochastic_latent.ipynb), [below](#What-we-now-know) and `notebook 05`."
    )
    closing = (
        "## What we now know\n\nMuch: $n! = 2$. **What is still missing** is more.\n\n"
        f"**Try it yourself.** Now.\n\n**Read on.** Ha.\n\n{way}"
    )
    setup = f'import torch\nprint(torch.__version__)\nprogress("{number}")'
    cells = [
        markdown(opening, "opening"),
        code(setup, "setup", name="versions"),
        code('agent_map("world")', name="map"),
        code(f'guess("{number}.nats", low=0, high=4)', name="guess-nats"),
        markdown(picture_text, "picture"),
        code(f'reveal("{number}.nats", 3)', "nbval-ignore-output", name="reveal-nats"),
        *[c for k in "123" for c in sample_exercise(f"{number}.{k}", "answer = ...", "answer = 7")],
        markdown(closing, "closing"),
    ]
    cells[1]["metadata"]["jupyter"] = {"source_hidden": True}
    cells[2]["outputs"] = [picture("Map of the agent, with the world lit.")]
    cells[5]["metadata"]["jupyter"] = {"outputs_hidden": True}
    notebook = {"metadata": {}, "cells": cells}
    for count, cell in enumerate(code_cells(notebook), 1):
        cell["execution_count"] = count
    return notebook


def cell_of(notebook: dict, name: str) -> dict:
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def put(name: str, **values):
    return lambda n: cell_of(n, name).update(values)


def swap(name: str, old: str, new: str):
    def change(notebook):
        cell = cell_of(notebook, name)
        assert old in cell["source"]
        cell["source"] = cell["source"].replace(old, new)

    return change


def fold(notebook: dict, name: str, *labels: str) -> None:
    """Fold the code of a cell, and tag it."""
    metadata = cell_of(notebook, name)["metadata"]
    metadata |= {"jupyter": {"source_hidden": True}}
    metadata["tags"] = [*metadata.get("tags", []), *labels]


def stdout(text: str) -> list[dict]:
    return [{"output_type": "stream", "name": "stdout", "text": text}]


def result(**data: str) -> list[dict]:
    return [{"output_type": "execute_result", "data": data}]


@pytest.mark.parametrize(
    "spoil",
    [
        put("map", execution_count=7),
        put("map", execution_count=None),
        put("map", source="x\n" * 46),
        put("map", source="!ls"),
        put("map", outputs=[{"output_type": "error"}]),
        put("map", outputs=[{"output_type": "stream", "name": "stderr"}]),
        put("map", outputs=stdout("in /home/me/x")),
        put("map", outputs=stdout("in\n/home/me/x")),
        put("map", source="open(r'C:\\Users')"),
        put("map", outputs=result(**{"text/plain": "<X at 0x7f00aa11>"})),
        put("map", outputs=result(**{"image/svg+xml": "<svg>"})),
        put("map", outputs=result(**{"application/vnd.jupyter.widget-view+json": "x"})),
        put("map", source="open('/tmp/x')"),
        put("picture", source="See /home/me/x."),
        put("map", metadata={"tags": ["exersise"]}),
        put("map", metadata={"tags": ["export:rssm.RSSM"]}),
        put("map", metadata={"tags": ["raises-exception"]}),
        lambda n: n["metadata"].update(widgets={}),
    ],
)
def test_every_fault_of_storage_is_found(spoil):
    notebook = model()
    cell_of(notebook, "picture")["source"] += " <https://x.org/home/y>"  # no path
    assert faults(notebook) == []
    spoil(notebook)
    assert len(faults(notebook)) == 1


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("opening", swap("opening", "# 01", "# 02")),
        ("opening", swap("opening", "Claim", "Hope")),
        ("opening", swap("opening", "20 seconds", "soon")),
        ("opening", swap("opening", "Before this", "After this")),
        ("opening", swap("opening", "\n- **count** it.", "")),
        ("opening", swap("opening", "**count** it.", "a;\n- b;\n- c;\n- d.")),
        ("opening", swap("opening", "**count**", "...")),
        ("opening", swap("versions", "torch.__version__", "1")),
        ("opening", swap("versions", "progress", "print")),
        ("opening", swap("versions", "01", "02")),
        ("opening", lambda n: n["cells"].pop(0)),
        ("map", swap("map", "agent_map", "encoder")),
        ("guess", swap("guess-nats", "guess", "print")),
        ("guess", swap("guess-nats", "low=0", "3.5")),
        ("guess", swap("guess-nats", "low=0, ", "")),
        ("guess", lambda n: cell_of(n, "reveal-nats")["metadata"].pop("jupyter")),
        ("guess", swap("reveal-nats", "01.nats", "01.bits")),
        ("guess", swap("reveal-nats", "reveal", "print")),
        ("guess", lambda n: [swap(c, "01.", "02.")(n) for c in ("guess-nats", "reveal-nats")]),
        ("guess", lambda n: n["cells"].insert(3, n["cells"].pop(5))),
        ("exercises", lambda n: n["cells"].__delitem__(slice(6, 10))),
        ("exercises", lambda n: n["cells"].__delitem__(slice(14, 18))),
        ("exercises", lambda n: n["cells"].__delitem__(slice(7, 8))),
        ("exercises", swap("folds-2", "Hint 1", "Hint 3")),
        ("closing", swap("closing", "now know", "believe")),
        ("closing", swap("closing", "missing", "there")),
        ("closing", swap("closing", "Read on", "Rest")),
        ("closing", swap("closing", "Try it yourself", "Stop")),
        ("alt", put("map", outputs=[picture("<Figure size 800x420 with 1 Axes>")])),
        ("alt", put("map", outputs=[picture("")])),
        ("alt", put("map", outputs=[picture("A map.")])),
        ("alt", swap("picture", "![Alt text]", "![]")),
        (
            "alt",
            swap(
                "picture",
                "![Alt text](../imgs/WM_training.png)",
                "<img src='../imgs/WM_training.png'>",
            ),
        ),
        ("folds", lambda n: cell_of(n, "versions")["metadata"].pop("jupyter")),
        ("folds", lambda n: fold(n, "guess-nats")),
        ("folds", lambda n: fold(n, "stub-2")),
        ("folds", lambda n: fold(n, "map", "equiv:wmlib.rssm.RSSM")),
        ("size", lambda n: [c.update(source=c["source"] + "\nx" * 7) for c in code_cells(n)]),
        ("ids", put("map", id="3f2c9a10")),
        ("ids", put("map", id="a1b2c3d4")),
        ("ids", put("map", id="")),
        ("ids", put("map", id="picture")),
        ("links", swap("picture", "#Free", "#Paid")),
        ("links", swap("picture", "#What-we", "#What-you")),
        ("links", swap("picture", "06_losses", "06_gains")),
        ("links", swap("picture", "[04](04_stochastic_latent.ipynb)", "04")),
        ("links", swap("picture", "[notebook 06](06_losses.ipynb#Free-bits)", "Notebook 06")),
        ("links", swap("picture", "`notebook 05`", "notebook\n05")),
        ("links", swap("picture", "WM_training", "no_such")),
        ("links", swap("opening", "(00_", "(01_")),
        ("links", swap("opening", "[02 · ", "[03 · ")),
        ("links", swap("closing", "02_observation_encoder", "06_losses")),
        ("tone", swap("picture", " it,", " it! ")),
        ("tone", swap("picture", " it,", " it \U0001f680")),
    ],
)
def test_every_fault_of_anatomy_is_found(rule, spoil):
    notebook = model()
    assert not any(anatomy(notebook, "01").values())
    spoil(notebook)
    assert rule in [name for name, found in anatomy(notebook, "01").items() if found]


def test_eleven_may_have_any_number_of_exercises():
    notebook = model("11")
    del notebook["cells"][6:18]
    assert not any(anatomy(notebook, "11").values())


# ---------------------------------------------------------------- storing


def test_storing_leaves_ids_tags_and_pictures_and_nothing_else():
    live = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "A slider."}
    notebook = model()
    cell_of(notebook, "map")["outputs"][0]["data"].update(live)
    kept = {"tags": ["setup"], "jupyter": {"outputs_hidden": True}}
    cell_of(notebook, "map")["metadata"] = {**kept, "execution": {}, "trusted": True}
    notebook["metadata"] = {"widgets": {}, "kernelspec": {"name": "mine"}}
    before = copy.deepcopy(notebook)
    notebook = nbformat.from_dict({**notebook, "nbformat": 4, "nbformat_minor": 4})
    notebook.cells[3].id = "map"  # twice
    del notebook.cells[4]["id"]
    clean(notebook)
    ids = [cell["id"] for cell in notebook.cells]
    assert ids[3:5] == ["map-2", "map-2-next"] and ids[5] == "reveal-nats"
    assert len(set(ids)) == len(ids) and ids[:3] == [c["id"] for c in before["cells"][:3]]
    assert notebook.cells[2].metadata == kept
    assert set(notebook.cells[2].outputs[0].data) == {"image/png", "text/plain"}
    assert (
        notebook.metadata["kernelspec"]["name"] == "python3" and "widgets" not in notebook.metadata
    )
    assert faults(notebook) == []
    again = copy.deepcopy(notebook)
    clean(again)
    assert again == notebook


def test_the_recipes_run_notebooks_alike():
    make = (Path(__file__).parent.parent / "Makefile").read_text()
    recipe = re.search(r"--nbval .*?notebooks\n", make, re.S)[0]
    assert re.search(r"--nbval-cell-timeout \d+", recipe), "a hung cell would never end"
    sanitiser = re.search(r"--nbval-sanitize-with (\S+)", recipe)[1]
    assert "N s" in (Path(__file__).parent.parent / sanitiser).read_text()
    assert "--dist loadfile" in recipe and "--nbval-current-env" in recipe
    assert "WMLIB_PROGRESS= " in make
