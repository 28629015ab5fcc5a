"""Logs of a training for people: a CSV file, TensorBoard, and a line an epoch on a terminal."""

import csv
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from exvo.util.atomic import atomic_path

logger = logging.getLogger(__name__)


class EpochLog:
    """Writes what each epoch measured.

    Parameters
    ----------
    folder : Path
        Receives ``metrics.csv`` and TensorBoard's files.
    title : str
        What is trained, for the terminal.
    max_epochs : int
    n_steps : int
        Steps that are done. TensorBoard drops what an interrupted epoch wrote after them.
    """

    def __init__(self, folder: Path, title: str, max_epochs: int, n_steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.title = title
        self.max_epochs = max_epochs
        # TensorBoard drops this step too, and the last finished epoch was written at the step before it.
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=n_steps + 1)

    def write(self, history: Sequence[dict[str, float]], best_epoch: int, step: int) -> None:
        """Write the last epoch of a history."""
        record = history[-1]
        logger.info("epoch %d: %s", record["epoch"], record)
        with atomic_path(self.folder / "metrics.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        for name, value in record.items():
            if math.isfinite(value):
                self._tensorboard.add_scalar(name, value, step)
        self._tensorboard.flush()
        # A progress bar would overwrite what other jobs write to the same terminal.
        if sys.stderr.isatty():
            sys.stderr.write(
                f"{self.title}: epoch {record['epoch']} of {self.max_epochs} in {record['seconds']:.0f} s, "
                f"val_loss {record['val_loss']:.4g}, best epoch {best_epoch}\n"
            )
            sys.stderr.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        self._tensorboard.close()
