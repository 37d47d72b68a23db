"""Federated pipelines, one a file."""
