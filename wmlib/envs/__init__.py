"""Worlds: the teaching world `Curtain`, and any Gymnasium environment as rows."""
