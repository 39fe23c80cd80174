"""The figures of the report: one function each, one module per theme. See `registry`."""
