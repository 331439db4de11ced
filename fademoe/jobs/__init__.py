"""Backfill: plan, fetch and store windows, by RQ workers."""
