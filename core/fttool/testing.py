"""Contracts for plugin authors."""
