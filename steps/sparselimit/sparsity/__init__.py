"""Masks: exact counts, the bias rule, paths and effective weights."""
