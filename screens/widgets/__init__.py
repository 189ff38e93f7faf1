"""Widgets that know nothing of sessions: curves, logs, images, code and values to edit."""
