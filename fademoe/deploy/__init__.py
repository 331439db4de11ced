"""Starts and stops the whole system."""
