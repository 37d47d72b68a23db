"""Federated pipelines that share generated knowledge, and the promises they make."""
