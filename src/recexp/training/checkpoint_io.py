"""Lightning's way to our checkpoint files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import CheckpointIO

from recexp.training import checkpoint_file


class AtomicCheckpointIO(CheckpointIO):
    """Atomic, verified, weights only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """See :func:`save`."""
        checkpoint_file.save(checkpoint, Path(path), keep=Path(path).with_name(checkpoint_file.PREVIOUS))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See :func:`load`: always into host memory, always weights only."""
        return checkpoint_file.load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a file."""
        Path(path).unlink(missing_ok=True)
