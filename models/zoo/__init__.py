"""Complete experiments that run: copy one with ``elektronn new NAME`` and edit it."""
