"""Pruning methods for trained classifiers, one file each. See `registry`."""
