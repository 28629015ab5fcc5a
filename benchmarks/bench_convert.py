"""Decoding a shard against one ffmpeg process per clip that writes a WAV file, as scripts do.

The peer runs one clip after another, as such scripts do, and for fairness two at a time, as ours does. PyAV, which
decodes without a process, is the second peer, its samples written to WAV files; it is raced one clip after another
with ours on one thread, and two at a time with ours on two. Ours writes one Parquet file of 24-bit FLAC and measures
each clip besides; the peers write 16-bit files.

Beside these stand the rates at which recordings and audio shards are read, against plain reads of the same files.

Run: ``python benchmarks/bench_convert.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile
from common import SAMPLE_RATE, clip_files, corpus_folder, parse_arguments, peer_module, race, write_records
from roofline import against_plain_reads

from exvo.audio.convert import convert_clip, convert_shard
from exvo.audio.decode import ConvertConfig
from exvo.audio.program import ffmpeg_binary
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
    av = peer_module("av")
    with (
        corpus_folder(arguments.corpus, arguments.clips) as corpus,
        tempfile.TemporaryDirectory() as temporary,
    ):
        target, folder = Path(temporary) / "shard.parquet", Path(temporary)
        paths = clip_files(corpus, arguments.clips)
        files = {path.stem: path.name for path in paths}

        def ours(n_threads: int) -> None:
            convert_shard(corpus / "raw", files, target, ConvertConfig(), bits=BITS, n_threads=n_threads)

        def by_process(path: Path) -> None:
            output = str(folder / f"{path.stem}.wav")
            command = [ffmpeg, "-y", "-nostdin", "-loglevel", "error", "-i", str(path)]
            subprocess.run([*command, "-ac", "1", "-ar", str(SAMPLE_RATE), output], check=True)

        def by_pyav(path: Path) -> None:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            with av.open(str(path)) as container:
                blocks = [
                    block.to_ndarray()[0]
                    for frame in [*container.decode(audio=0), None]
                    for block in resampler.resample(frame)
                ]
            soundfile.write(folder / f"{path.stem}.wav", np.concatenate(blocks), SAMPLE_RATE)

        def each(convert: Callable[[Path], None], n_threads: int) -> None:
            with ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(convert, paths))

        records = []
        for name, convert in (("one ffmpeg process per clip", by_process), ("PyAV in process", by_pyav)):
            ours(N_THREADS)
            each(convert, N_THREADS)
            alike = share_alike(target, folder)
            for words, n_theirs in (("one after another", 1), ("two at a time", N_THREADS)):
                # Scripts run one process after another, whatever the machine has; beside PyAV, threads are equal.
                n_ours = n_theirs if convert is by_pyav else N_THREADS
                records.append(
                    race(
                        "convert",
                        f"{name}, {words}",
                        partial(ours, n_ours),
                        partial(each, convert, n_theirs),
                        n_clips=len(paths),
                        outputs_match=alike,
                        unit=f"clips/s, ours on {n_ours} thread{'s' * (n_ours > 1)}",
                    )
                )
        config = ConvertConfig()
        binary = ffmpeg_binary(config.ffmpeg)
        reads = (
            (
                "recordings",
                paths,
                lambda: [
                    convert_clip(p.stem, folder=p.parent, files=files, config=config, binary=binary)
                    for p in paths
                ],
                "ours decodes them too",
            ),
            ("an audio shard", [target], lambda: read_shard(target), "ours decodes its FLAC too"),
        )
        records += [against_plain_reads("convert", *read) for read in reads]
    write_records(records)


if __name__ == "__main__":
    main()
