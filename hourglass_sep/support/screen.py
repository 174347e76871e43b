"""Rich console for tables, with broken pipes as ordinary errors."""

from __future__ import annotations

from rich.console import Console


class Screen(Console):
    """A console that raises BrokenPipeError when its pipe is closed, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError; rich calls this when the pipe is closed."""
        raise BrokenPipeError
