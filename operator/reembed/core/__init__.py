"""The decisions of Reembed: pure functions over frozen values, with no I/O, clock, chance or logging."""
