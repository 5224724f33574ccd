"""Example configurations and demo recordings, packaged as data."""
