"""ComParE functionals against ``opensmile``'s own ``process_files``, a worker for every core, on the same WAV files.

Both read the files, so that neither gets its samples for nothing.

Run: ``python benchmarks/bench_opensmile.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

import tempfile
from pathlib import Path

import numpy as np
import opensmile
import soundfile
from common import SAMPLE_RATE, parse_arguments, race, read_clips, write_records

from exvo.features.opensmile import OpensmileConfig, opensmile_functionals
from exvo.util.cores import n_cores

N_WORKERS = n_cores()
MIN_SECONDS = 0.1  # below 60 ms openSMILE gives no numbers; ours lengthens such clips


def main() -> None:
    """Compare the features, run the race and write its record."""
    arguments = parse_arguments(__doc__, n_clips=100)
    clips = read_clips(arguments.corpus, arguments.clips, min_seconds=MIN_SECONDS)
    config = OpensmileConfig()
    smile = opensmile.Smile(
        opensmile.FeatureSet[config.feature_set],
        opensmile.FeatureLevel.Functionals,
        num_workers=N_WORKERS,
    )
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{index:05d}.wav") for index in range(len(clips))]
        for path, clip in zip(files, clips, strict=True):
            soundfile.write(path, clip, SAMPLE_RATE, subtype="FLOAT")

        def ours() -> tuple[np.ndarray, list[str]]:
            signals = [soundfile.read(path, dtype="float32")[0] for path in files]
            return opensmile_functionals(signals, config, n_threads=N_WORKERS)

        values, names = ours()
        expected = smile.process_files(files)
        same_names = names == list(expected.columns)
        n_differing = int((values != expected.to_numpy()).any(axis=1).sum())
        match = (same_names and not n_differing) or f"{n_differing} of {len(clips)} clips differ"
        record = race(
            "opensmile",
            f"opensmile process_files, {N_WORKERS} workers",
            ours,
            lambda: smile.process_files(files),
            n_clips=len(clips),
            outputs_match=match,
            unit=f"clips/s on {N_WORKERS} threads",
        )
    write_records([record])


if __name__ == "__main__":
    main()
