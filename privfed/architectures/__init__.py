"""Reference architectures: each file has a module for one model and a function for many."""
