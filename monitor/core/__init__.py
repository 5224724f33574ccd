"""The pure middle: no clock, no randomness, no I/O."""
