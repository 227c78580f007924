"""The player of `wmlib.page` as a Jupyter widget."""

import anywidget
import traitlets

from wmlib.page import player

__all__ = ["DreamPlayer"]

RENDER = """
export default {
  render({ model, el }) {
    const heard = (report) => { model.set("report", report); model.save_changes(); };
    const { code } = model.get("report"); // where a closed notebook was left
    const player = mount(el, model.get("content"), { code, played: model.get("played"), heard });
    const learn = () => player.learn(model.get("weights"));
    if (model.get("weights").data) learn();
    model.on("change:weights", learn);
    return () => { player.playing = false; model.off("change:weights", learn); };
  },
};
"""


class DreamPlayer(anywidget.AnyWidget):
    """A world and an agent's dream of it, run by the page; it goes on without a kernel."""

    _esm = player() + RENDER
    content = traitlets.Dict().tag(sync=True)  # what wmlib.page.content gives
    played = traitlets.Int(0).tag(sync=True)  # actions of the agent before anybody acts
    weights = traitlets.Dict().tag(sync=True)  # what wmlib.page.pack gives: the agent has learnt
    report = traitlets.Dict().tag(sync=True)  # from the page: actions, latents and settings
