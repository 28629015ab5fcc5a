"""Train one seed of a feature fusion: from the vectors of several systems to the folder of a trained model.

It is trained on Train and its epoch chosen on Val, as any system's is, so it is judged as a system is. Of a clip
without audio in a system's stage that system's part is left out; a clip without any gets the Train prior.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import concatenate
from exvo.networks.fusion_network import FeatureFusionConfig
from exvo.systems.sequence import sequence_configs
from exvo.training.checkpoint import remove_checkpoints
from exvo.training.clip_vectors import UtteranceStore
from exvo.training.predict import predict_clips
from exvo.training.results import write_results
from exvo.training.storage import save_sequence
from exvo.training.train import train_sequence


def train_feature_fusion(
    files: Sequence[tuple[str | Path, str | Path]],
    corpus: Corpus,
    joint: Mapping[str, object],
    seed: int,
    folder: str | Path,
    *,
    n_threads: int = 1,
) -> None:
    """Train, predict Val and Test and write the folder of the trained model.

    A job that was killed goes on, when it is started again, from the last epoch it had finished.

    Parameters
    ----------
    files : sequence of (frames path, index path)
        Vectors by system, as `exvo.features.vectors.write_vectors` wrote them.
    corpus : Corpus
    joint : mapping
        ``tasks`` and ``training`` of the fusion, as `exvo.workflow.feature_fusion_plan.FeatureFusionPlan.spec` gives them; all of it is kept.
    seed : int
    folder : str or Path
        Receives model.safetensors, config.json, history.csv, val.parquet, test.parquet and metrics.json,
        and logs.
    n_threads : int

    Raises
    ------
    ValueError
        Where Train has no clip with audio and a label of the tasks.
    """
    folder = Path(folder)
    store = UtteranceStore(files)
    joint = {**joint, "encoder": FeatureFusionConfig.kind}
    network_config, config = sequence_configs(joint, FeatureFusionConfig, {"widths": store.widths})
    by_split = {split: corpus.labels.take(corpus.labels.split == split) for split in ("Train", "Val", "Test")}
    train, val = (by_split[s].take(store.has_audio(by_split[s].clip_id)) for s in ("Train", "Val"))
    moments = store.moments(train.clip_id)
    trained = train_sequence(
        store, train, val, network_config, config, moments, seed, folder, n_threads=n_threads
    )
    save_sequence(folder, trained, joint)
    answers = concatenate(
        [predict_clips(trained, store, by_split[split].clip_id, n_threads) for split in ("Val", "Test")]
    )
    n_epochs = len(trained.history)
    write_results(folder, corpus.labels, answers, best_epoch=trained.best_epoch, n_epochs=n_epochs)
    remove_checkpoints(folder)
