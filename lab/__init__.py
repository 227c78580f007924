"""What `make lab` adds to JupyterLab, besides overrides.json and extensions/picture-text.

JupyterLab saves widgets only while the kernel that made them runs. A notebook that is opened the
next day and saved again would lose its widgets, and show errors in their place. So, in every save:

- widgets that are still shown keep the state that the file had, and no others are kept;
- an output whose widget has no state becomes its stored picture.
"""

import json
from pathlib import Path
from typing import Any

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
REFERENCE = "IPY_MODEL_"


def widget_states(notebook: dict[str, Any]) -> dict[str, Any]:
    """States of the widgets that are stored in a notebook, by model id."""
    return notebook.get("metadata", {}).get("widgets", {}).get(STATE, {}).get("state", {})


def references(value: Any) -> set[str]:
    """Ids of all models that a state mentions."""
    if isinstance(value, str):
        return {value.removeprefix(REFERENCE)} if value.startswith(REFERENCE) else set()
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def keep_widgets(notebook: dict[str, Any], before: dict[str, Any]) -> None:
    """Tidy the widgets of a notebook that is about to replace another version of itself."""
    known, kept = widget_states(before) | widget_states(notebook), {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if VIEW not in data:
                continue
            wanted = [data[VIEW]["model_id"]]
            if wanted[0] not in known:
                del data[VIEW]
                continue
            while wanted:
                name = wanted.pop()
                if name in known and name not in kept:
                    kept[name] = known[name]
                    wanted += references(known[name])
    notebook["metadata"].pop("widgets", None)
    if kept:
        state = {"state": kept, "version_major": 2, "version_minor": 0}
        notebook["metadata"]["widgets"] = {STATE: state}


def before_save(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Called by the server with everything that it is about to write."""
    if model["type"] == "notebook":
        try:
            file = Path(contents_manager.root_dir, path)
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # new, or not readable: there is nothing to keep
            before = {}
        keep_widgets(model["content"], before)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "lab"}]


def _load_jupyter_server_extension(server: Any) -> None:
    server.contents_manager.register_pre_save_hook(before_save)
