"""BSS Eval v3 and v4, and the linear algebra that makes them fast."""
