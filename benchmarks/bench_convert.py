"""Decoding a shard against one ffmpeg process per clip that writes a WAV file, as scripts do.

The peer runs one clip after another, as such scripts do, and for fairness two at a time, as ours does. Ours
writes one Parquet file of 24-bit FLAC and measures each clip besides; the peer writes 16-bit files. PyAV is not
raced: it is not among the dependencies.

Run: ``python benchmarks/bench_convert.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile
from common import SAMPLE_RATE, clip_files, corpus_folder, parse_arguments, race, write_records

from exvo.audio.convert import ConvertConfig, convert_shard
from exvo.audio.store import read_shard

N_THREADS = 2
BITS = 24
TOLERANCE = 1e-3  # of the clip's peak; the peer rounds to 16 bits


def share_alike(shard: Path, folder: Path) -> str:
    """Say how many clips are those of the peer, but for a gain.

    The gains differ on purpose: the peer adds stereo channels with weights of 0.71, and limits what the codec
    overshoots where ours scales it down.
    """
    n_alike = n_clips = 0
    for clip in read_shard(shard):
        expected, _ = soundfile.read(folder / f"{clip.clip_id}.wav", dtype="float32")
        n_clips += 1
        if clip.audio is None or len(clip.audio) != len(expected):
            continue
        free = np.abs(expected) < 0.999
        found, wanted = clip.audio[free], expected[free]
        power = float(np.dot(found, found))
        error = np.abs(found * (np.dot(found, wanted) / power if power else 1.0) - wanted)
        n_alike += bool(error.max(initial=0.0) <= max(TOLERANCE * np.abs(expected).max(), 2**-15))
    return f"{n_alike} of {n_clips} clips, to 16 bits and a gain"


def main() -> None:
    """Compare the samples, run the races and write the records."""
    arguments = parse_arguments(__doc__, n_clips=200)
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    with (
        corpus_folder(arguments.corpus, arguments.clips) as corpus,
        tempfile.TemporaryDirectory() as temporary,
    ):
        target, folder = Path(temporary) / "shard.parquet", Path(temporary)
        paths = clip_files(corpus, arguments.clips)
        files = {path.stem: path.name for path in paths}

        def ours() -> None:
            convert_shard(corpus / "raw", files, target, ConvertConfig(), bits=BITS, n_threads=N_THREADS)

        def convert_file(path: Path) -> None:
            output = str(folder / f"{path.stem}.wav")
            command = [ffmpeg, "-y", "-nostdin", "-loglevel", "error", "-i", str(path)]
            subprocess.run([*command, "-ac", "1", "-ar", str(SAMPLE_RATE), output], check=True)

        def one_by_one() -> None:
            for path in paths:
                convert_file(path)

        def two_at_a_time() -> None:
            with ThreadPoolExecutor(N_THREADS) as pool:
                list(pool.map(convert_file, paths))

        ours()
        two_at_a_time()
        alike = share_alike(target, folder)
        records = [
            race(
                "convert",
                f"one ffmpeg process per clip, {words}",
                ours,
                theirs,
                n_clips=len(paths),
                outputs_match=alike,
                unit=f"clips/s, ours on {N_THREADS} threads",
            )
            for words, theirs in (("one after another", one_by_one), ("two at a time", two_at_a_time))
        ]
    write_records(records)


if __name__ == "__main__":
    main()
