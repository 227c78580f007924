"""A DreamerV3-style world model and agent, built piece by piece in a course of notebooks."""
