"""Defences, one a file, each with the claim it earns."""
