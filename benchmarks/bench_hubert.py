"""HuBERT embeddings against torchaudio and `transformers`, and against the matrix-multiply rate.

HuBERT Base with random weights, the same in all, float32, one thread each: the last layer of every clip. The peers
take clip by clip, and padded batches of clips of similar length. In these, the group norm of HuBERT Base's first
layer sees the padding, so that their embeddings differ. The work of a clip is what torch counts for the clip alone
(about 14 GFLOP a second of audio), so padding or waste of any kind lowers our rate. The rate of sgemm is measured
between the runs, on square matrices of 1,024.

Other number formats are raced too: bfloat16, which is an option of the workflow, and int8, which is not. What bfloat16
does to scores is seen from a decoder that is trained on embeddings of either kind.

Run: ``python benchmarks/bench_hubert.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

from functools import partial

from common import SAMPLE_RATE, one_thread, parse_arguments, race, read_clips, write_records

one_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from precision import int8_linear, relative_error, scores_of_precisions  # noqa: E402
from roofline import ROUNDS, against_sgemm  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from exvo.hubert.encoder import RECEPTIVE_FIELD, build_hubert, hidden_states  # noqa: E402
from exvo.hubert.published import BASE, torchaudio_state_of_transformers  # noqa: E402

TOLERANCE = 1e-4
TARGET = 0.8  # of the rate of sgemm
BATCH = 8
N_SCORED = 240  # demo clips that the scores of other number formats rest on


def padded(clips: list[np.ndarray]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return batches of clips of similar length, padded with zeros, and the clips' lengths."""
    ordered = sorted(clips, key=len)
    groups = [ordered[i : i + BATCH] for i in range(0, len(ordered), BATCH)]
    return [
        (
            torch.nn.utils.rnn.pad_sequence([torch.from_numpy(clip) for clip in group], batch_first=True),
            torch.tensor([len(clip) for clip in group]),
        )
        for group in groups
    ]


def main() -> None:
    """Compare the embeddings, run the races and write the records."""
    arguments = parse_arguments(__doc__, n_clips=24)
    torch.set_num_threads(1)
    clips = read_clips(arguments.corpus, arguments.clips, min_seconds=RECEPTIVE_FIELD / SAMPLE_RATE)
    clips.sort(key=len)  # as the padded batches have them, so that all outputs come in one order
    torch.manual_seed(0)
    theirs = transformers.HubertModel(transformers.HubertConfig()).eval()
    model = build_hubert(BASE).eval()
    model.load_state_dict(torchaudio_state_of_transformers(theirs.state_dict(), BASE))
    batches = padded(clips)

    def ours(encoder: torch.nn.Module = model, precision: str = "fp32") -> list[np.ndarray]:
        return [states[0] for states in hidden_states(encoder, clips, [BASE.n_layers], precision=precision)]

    def torchaudio_alone() -> list[np.ndarray]:
        return [model.extract_features(torch.from_numpy(clip)[None])[0][-1][0].numpy() for clip in clips]

    def torchaudio_padded() -> list[np.ndarray]:
        frames = []
        for waveforms, lengths in batches:
            states, n_frames = model.extract_features(waveforms, lengths)
            frames += [state[:n].numpy() for state, n in zip(states[-1], n_frames, strict=True)]
        return frames

    def transformers_alone() -> list[np.ndarray]:
        return [theirs(torch.from_numpy(clip)[None]).last_hidden_state[0].numpy() for clip in clips]

    def transformers_padded() -> list[np.ndarray]:
        frames = []
        for waveforms, lengths in batches:
            mask = (torch.arange(waveforms.shape[1]) < lengths[:, None]).long()
            states = theirs(waveforms, attention_mask=mask).last_hidden_state
            n_frames = theirs._get_feat_extract_output_lengths(lengths)
            frames += [state[:n].numpy() for state, n in zip(states, n_frames, strict=True)]
        return frames

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for clip in clips:
            model.extract_features(torch.from_numpy(clip)[None])
    flops = counter.get_total_flops()
    expected, records = ours(), []
    for peer, embed in (
        ("torchaudio extract_features, clip by clip", torchaudio_alone),
        (f"torchaudio extract_features, padded batches of {BATCH}", torchaudio_padded),
        ("transformers HubertModel, clip by clip", transformers_alone),
        (f"transformers HubertModel, padded batches of {BATCH}", transformers_padded),
    ):
        with torch.inference_mode():
            furthest = max(float(np.abs(a - b).max()) for a, b in zip(expected, embed(), strict=True))
            records.append(
                race(
                    "hubert",
                    peer,
                    ours,
                    embed,
                    n_clips=len(clips),
                    outputs_match=furthest < TOLERANCE or f"embeddings differ by up to {furthest:.1e}",
                    repeats=ROUNDS,
                )
            )
    records.append(against_sgemm("hubert", ours, flops, target=TARGET))
    quantised = int8_linear(model)
    for words, embed in (
        ("ours in bfloat16, by autocast (features.hubert.precision)", partial(ours, precision="bf16")),
        ("ours with dynamic int8 in the linear layers", partial(ours, quantised)),
    ):
        error = f"no: embeddings {relative_error(embed(), expected):.1%} apart (root mean square)"
        records.append(
            race("hubert", words, ours, embed, n_clips=len(clips), outputs_match=error, repeats=ROUNDS)
        )
    write_records(records + scores_of_precisions(N_SCORED))
    seconds = sum(len(clip) for clip in clips) / SAMPLE_RATE
    print(f"{flops / seconds / 1e9:.1f} GFLOP a second of audio")


if __name__ == "__main__":
    main()
