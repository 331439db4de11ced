"""The Flask app: pages, JSON API and control."""
