"""The configured site."""
