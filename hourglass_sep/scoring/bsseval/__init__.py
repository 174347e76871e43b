"""BSS Eval v3 and v4, with fast solvers for their linear systems."""
