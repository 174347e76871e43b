"""Tables on the screen, whoever reads it."""

from __future__ import annotations

from rich.console import Console


class Screen(Console):
    """A console for which a pipe that nobody reads any more is an error like others, and not the process's end."""

    def on_broken_pipe(self) -> None:
        """Called by rich where the pipe is broken."""
        raise BrokenPipeError
