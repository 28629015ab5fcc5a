"""All sections of the config as dataclasses; `config_schema` is the JSON schema that is generated from them.

The sections of algorithms are the dataclasses of these algorithms. This module imports all of them, so that only the
generator uses it (``make reference``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from exvo.audio.decode import ConvertConfig
from exvo.audio.denoise import DenoiseConfig
from exvo.audio.highpass import HighpassConfig
from exvo.audio.vad import VadConfig
from exvo.evaluation.bootstrap import BootstrapConfig
from exvo.features.logmel import LogmelConfig
from exvo.features.opensmile import OpensmileConfig
from exvo.fusion.config import CrossFit, FusionConfig
from exvo.hubert.embeddings import EmbeddingConfig
from exvo.hubert.encoder import HubertConfig
from exvo.pretraining.clusters import ClusterConfig
from exvo.pretraining.loop import PretrainConfig
from exvo.util.settings import Bounds, Count, Items, Name, Natural, Positive, Schema, Share, Stage, Task, Text
from exvo.workflow.encoder_settings import ENCODERS, FEATURE_FUSION
from exvo.workflow.schema import section_schema


def encoder_sections() -> Schema:
    """Return the schema of ``encoders``, a section for each entry of `ENCODERS`."""
    sections = {
        name: {"description": settings.description, "default": {}, "$ref": f"#/$defs/{name}"}
        for name, settings in ENCODERS.items()
    }
    return Schema({"type": "object", "additionalProperties": False, "properties": sections})


def variants_of(*kinds: str) -> Schema:
    """Return the schema of ``features.variants``: any keys of a kind, and none of its defaults."""
    entries = {
        f"^{kind}(-[A-Za-z0-9]+)+$": {
            "anyOf": [{"type": "null"}, {"$ref": f"#/properties/features/properties/{kind}"}]
        }
        for kind in kinds
    }
    return Schema({"type": "object", "additionalProperties": False, "patternProperties": entries})


@dataclass(frozen=True)
class Corpus:
    """The recordings and their labels.

    Attributes
    ----------
    root : str
        Folder with data_info.csv and raw/ (and wav/, test_labels.csv); relative to the working directory. ``~`` and
        ``$NAME`` are expanded, here and in the other keys that name files of yours. Braces are refused, because
        Snakemake reads them as wildcards.
    shards : int
        Number of parts of the corpus; a job processes one stage of one part. Parts of 1,000 to 2,000 clips work well;
        have at least as many parts as cores.
    limit : int or None
        Maximum number of clips of each split, for a short run; all clips of a speaker are kept together. Null takes
        all.
    max_bad_fraction : float
        Maximum share of clips without audio (missing or unreadable); a run with more stops after decoding and says
        why. A change of it trains again.
    """

    root: Annotated[str, Text(min_length=1)]
    shards: Annotated[int, Bounds(at_least=1, at_most=9999)] = 4
    limit: Count | None = None
    max_bad_fraction: Share = 0.1


@dataclass(frozen=True)
class Audio:
    """The stages of the audio, each made from the previous one.

    Attributes
    ----------
    convert : ConvertConfig
        Decoding of raw/ (stage raw) and wav/ (stage baseline) to 16 kHz mono.
    highpass : HighpassConfig
        Stage dc: linear-phase high-pass filter, then gain to a peak.
    denoise : DenoiseConfig
        Stage denoised: MMSE-STSA noise reduction (Ephraim and Malah 1984).
    vad : VadConfig
        Stage vad: silence and steady noise before and after the burst removed, by Silero VAD and by level.
    """

    convert: ConvertConfig = field(default_factory=ConvertConfig)
    highpass: HighpassConfig = field(default_factory=HighpassConfig)
    denoise: DenoiseConfig = field(default_factory=DenoiseConfig)
    vad: VadConfig = field(default_factory=VadConfig)


@dataclass(frozen=True)
class Features:
    """The features that are computed from a stage.

    Attributes
    ----------
    opensmile : OpensmileConfig
        openSMILE functionals, one row per clip.
    logmel : LogmelConfig
        Log-mel spectrograms.
    hubert : EmbeddingConfig
        Hidden states of a HuBERT, wav2vec 2.0 or WavLM, a frame every 20 ms.
    variants : mapping
        Features with other settings, by name: the name of a feature above, a hyphen and a suffix, such as
        ``hubert-base``. Each entry gives the keys that differ; null removes a variant of another config.
    """

    opensmile: OpensmileConfig = field(default_factory=OpensmileConfig)
    logmel: LogmelConfig = field(default_factory=LogmelConfig)
    hubert: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    variants: Annotated[Mapping[str, Any], variants_of("opensmile", "logmel", "hubert")] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class SystemEntry:
    """An entry of ``systems``.

    Attributes
    ----------
    stage : str
        Audio stage.
    feature : str
        Feature of the stage: ``opensmile``, ``logmel``, ``hubert`` or one of ``features.variants``.
    encoder : str
        Network, one of the sections of ``encoders``; it has to read the feature.
    tasks : tuple of str
        Tasks that the system predicts.
    training : mapping
        Settings that differ from those of the encoder.
    """

    stage: Stage
    feature: str
    encoder: Annotated[str, Schema({"enum": list(ENCODERS)})]
    tasks: Annotated[tuple[Task, ...], Items(at_least=1, unique=True)] = get_args(Task)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Statistics(CrossFit, BootstrapConfig):
    """Confidence intervals, and the folds of the validation set.

    Attributes
    ----------
    seed : int
        Seed of the resamples and of the folds.
    """

    seed: Natural = 0


@dataclass(frozen=True)
class StageRows:
    """Systems of Table 1, a row per stage.

    Attributes
    ----------
    baseline, raw, dc, denoised, vad : str or None
        System of the row; null leaves the row out.
    """

    baseline: str | None = None
    raw: str | None = None
    dc: str | None = None
    denoised: str | None = None
    vad: str | None = None


@dataclass(frozen=True)
class Tables:
    """Which systems are in the tables.

    Attributes
    ----------
    table1 : StageRows
        Table 1, one system per stage: the organisers' network on openSMILE functionals.
    table2 : mapping
        Table 2, one task against all: rows ``emotion only``, ``age only``, ``country only``, ``multitask``, or others;
        systems of one encoder.
    table3 : mapping
        Table 3, encoders and training settings: systems by row; a row named as in the paper also shows the paper's
        scores.
    """

    table1: StageRows
    table2: Mapping[str, str | None] = field(default_factory=dict)
    table3: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ClusterEntry(ClusterConfig):
    """An entry of ``pretrain.clusters``.

    Attributes
    ----------
    of : {"mfcc", "hidden", "teacher"}
        Input of the clustering: ``mfcc``, cepstra with derivatives; ``hidden``, a layer of one of ``models``;
        ``teacher``, sequence features in a folder.
    model : str or None
        For ``hidden``: the name of the model.
    layer : int or None
        For ``hidden``: 0 is the input of the first layer, ``i`` the output of layer ``i``.
    folder : str or None
        For ``teacher``: the folder with ``<shard>.npy`` and ``<shard>.parquet``, in the format of stored features.
    frame_ms : float
        For ``teacher``: step from one frame to the next, in ms.
    first_ms : float
        For ``teacher``: centre of the first frame in the clip, in ms.
    """

    of: Literal["mfcc", "hidden", "teacher"]
    model: str | None = None
    layer: Natural | None = None
    folder: str | None = None
    frame_ms: Positive = 20.0
    first_ms: float = 0.0


# Trains in hours on a few cores.
SMALL_HUBERT = HubertConfig(
    frontend="logmel",
    conv_channels=128,
    d_model=256,
    n_heads=4,
    ffn=1024,
    n_layers=4,
    dropout=0.0,
    layer_drop=0.0,
)


@dataclass(frozen=True)
class ModelEntry:
    """An entry of ``pretrain.models``.

    Attributes
    ----------
    targets : tuple of str
        Names of ``clusters``; each has a linear layer of its own, and their losses are added.
    start : str or None
        Name of another of ``models`` to start from, with the same ``encoder``; null starts from random weights.
    encoder : HubertConfig
        Size and form of the encoder.
    training : PretrainConfig
        Settings of the training.
    """

    targets: Annotated[tuple[str, ...], Items(at_least=1, unique=True)]
    start: str | None = None
    encoder: HubertConfig = SMALL_HUBERT
    training: PretrainConfig = field(default_factory=PretrainConfig)


@dataclass(frozen=True)
class Pretraining:
    """Encoders pre-trained on the training set without labels.

    Attributes
    ----------
    stage : str
        Audio stage of the clips.
    clips : str or None
        Text file with ids of training clips, one per line, to pre-train on; null takes the complete training set.
    seed : int
        Seed of clusters, weights, batches and masks, and of the choice of held-out speakers.
    clusters : mapping
        Sets of clusters, the targets of masked prediction, by name; null removes one.
    models : mapping
        Encoders to pre-train, by name; null removes one.
    """

    stage: Stage = "raw"
    clips: str | None = None
    seed: Natural = 0
    clusters: Mapping[Name, ClusterEntry | None] = field(default_factory=dict)
    models: Mapping[Name, ModelEntry | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The report: results/report/report.html.

    Attributes
    ----------
    clips : tuple of str
        Ids of clips to show and play in it; if empty, those of lowest, median and highest SNR, the most clipped and
        the most trimmed.
    """

    clips: Annotated[tuple[str, ...], Items(unique=True)] = ()


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every key that a config may have. A key that is left out has the default given here.

    Attributes
    ----------
    corpus : Corpus
        The recordings and their labels.
    audio : Audio
        The stages of the audio, each made from the previous one.
    features : Features
        The features that are computed from a stage.
    encoders : mapping
        Settings of each encoder; a system may change them under ``training``.
    feature_fusion : mapping
        Settings of the networks of feature fusions; a fusion may change them under ``training``.
    seeds : tuple of int
        Every system is trained once with each seed; tables give the mean and SD.
    systems : mapping
        Trained systems by name; null removes one of the default config.
    submission : str
        Which of ``fusions`` becomes results/fusion/test_preds.csv; ``best`` takes the fusion or single system with the
        best out-of-fold S_MTL on the validation set.
    fusions : mapping
        Ways to combine systems, by name; null removes one of the default config.
    statistics : Statistics
        Confidence intervals, and the folds of the validation set.
    tables : Tables
        Which systems are in the tables.
    pretrain : Pretraining
        Encoders pre-trained on the training set without labels, on demand, as
        ``results/pretrain/<model>/model.safetensors``.
    report : Report
        The report: results/report/report.html.
    """

    corpus: Corpus
    audio: Audio = field(default_factory=Audio)
    features: Features = field(default_factory=Features)
    encoders: Annotated[Mapping[str, Any], encoder_sections()] = field(default_factory=dict)
    feature_fusion: Annotated[Mapping[str, Any], Schema({"$ref": "#/$defs/feature_fusion"})] = field(
        default_factory=dict
    )
    seeds: Annotated[tuple[Natural, ...], Items(at_least=1, unique=True)] = (0, 1, 2)
    systems: Mapping[Name, SystemEntry | None]
    submission: str = "best"
    fusions: Annotated[Mapping[Name, FusionConfig | None], Items(at_least=1)]
    statistics: Statistics = field(default_factory=Statistics)
    tables: Tables
    pretrain: Pretraining = field(default_factory=Pretraining)
    report: Report = field(default_factory=Report)


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of the config."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config of the vocal-burst workflow",
        "description": "Every key that a config may have. A key that is left out has the default given here.",
        **section_schema(Config),
        "$defs": {
            name: section_schema(*settings.sections, defaults=settings.defaults, without=settings.without)
            for name, settings in (ENCODERS | {"feature_fusion": FEATURE_FUSION}).items()
        },
    }
