"""The processes that run jobs: worker and scheduler."""
