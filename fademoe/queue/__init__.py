"""The job queue in Redis: RQ as FadeMoe uses it."""
