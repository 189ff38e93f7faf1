"""What makes a run a session: its process, socket, protocol, console, journal and registry.

For clients, quick to import: `registry` (which sessions there are), `launch` (start one), `protocol` (every message),
`blocking` (a client for commands), `client` (one for event loops), `errors`; `journal` and `log` read past runs.

In the worker: `worker` (the process), `session` (what a training loop talks to), `server`, `connection`, `queries` and
`feed` (what clients see), `commands`, `edits`, `console` and `gate` (what clients do), `completion`, `live` and
`completer` (what they could write), `previews`, `progress`, `rundir`.
"""
