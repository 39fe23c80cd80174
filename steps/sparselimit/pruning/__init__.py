"""Pruning methods, one file each. See `registry` for what a method's file may define."""
