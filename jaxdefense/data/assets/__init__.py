"""Rendered digit masters and the script that makes them."""
