"""The audit record and the pages rendered from it."""
