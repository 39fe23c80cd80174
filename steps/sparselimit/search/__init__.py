"""Exhaustive search: which sparse networks there are, and which of them solve the task."""
