"""Tests that a package which brings an exchange can inherit. pytest runs them; nothing here imports it."""
