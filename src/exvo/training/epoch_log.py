"""Logs of a training: a CSV file, TensorBoard, and one line per epoch on a terminal."""

import csv
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from exvo.util.atomic import atomic_path

logger = logging.getLogger(__name__)


class EpochLog:
    """Writes the measures of each epoch.

    Parameters
    ----------
    folder : Path
        Folder for ``metrics.csv`` and the files of TensorBoard.
    title : str
        Name of the training, for the terminal.
    max_epochs : int
    n_steps : int
        Number of completed steps. TensorBoard drops later values, which an interrupted epoch wrote.
    """

    def __init__(self, folder: Path, title: str, max_epochs: int, n_steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.title = title
        self.max_epochs = max_epochs
        # TensorBoard drops values at this step too; those of the last complete epoch are at step ``n_steps``.
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=n_steps + 1)

    def write(self, history: Sequence[dict[str, float]], best_epoch: int, step: int) -> None:
        """Write the last epoch of the history."""
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
        # A progress bar would overwrite the output of other jobs on the same terminal.
        if sys.stderr.isatty():
            sys.stderr.write(
                f"{self.title}: epoch {record['epoch']} of {self.max_epochs} in {record['seconds']:.0f} s, "
                f"val_loss {record['val_loss']:.4g}, best epoch {best_epoch}\n"
            )
            sys.stderr.flush()

    def close(self) -> None:
        """Close the file of TensorBoard."""
        self._tensorboard.close()
