"""Pictures: what is wrong on one, where, how much of it; and whether a row of them gets worse."""
