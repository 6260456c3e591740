"""The messages, written by generate.py."""
