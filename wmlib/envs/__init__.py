"""Worlds: the teaching world `Curtain`, and any Gymnasium environment as rows."""

import gymnasium

# Entry points are strings, so importing this package does not build the world; the guard lets the
# package be imported again (a reloaded notebook) without a warning.
if "wmlib/Curtain-v0" not in gymnasium.registry:
    gymnasium.register(
        id="wmlib/Curtain-v0",
        entry_point="wmlib.envs.curtain:Curtain",
        vector_entry_point="wmlib.envs.curtain:CurtainVec",
    )
