"""Tests that drive JupyterLab with a browser."""
