"""The engine: trains many small networks of one shape at once."""
