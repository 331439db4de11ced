"""Alerts: rules over stored minutes, their states, and the delivery of what changed."""
