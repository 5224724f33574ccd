"""Payloads: bytes as they travel to readings, purely. No peer, no clock; any connector may ask."""
