"""Laws that a trained world model must obey, whatever its weights."""
