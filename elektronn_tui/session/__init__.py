"""What makes a run a session: its process, socket, protocol, console, journal and registry."""
