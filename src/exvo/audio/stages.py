"""The chain of audio stages: the input of each stage and its section of the config."""

# The folder of the corpus that a decoded stage reads, and the input stage of each other stage.
SOURCE_FOLDER = {"baseline": "wav", "raw": "raw"}
MADE_FROM = {"dc": "raw", "denoised": "dc", "vad": "denoised"}
STAGES = ("baseline", "raw", "dc", "denoised", "vad")
# Speed factors of Train for systems with `speed_perturbation`.
SPEEDS = (0.9, 1.1)
# The section of the config, under `audio`, with the settings of a stage.
SECTION = {"baseline": "convert", "raw": "convert", "dc": "highpass", "denoised": "denoise", "vad": "vad"}


def stage_path(stage: str) -> list[str]:
    """Return the stages from the recording to a stage, in order."""
    path = [stage]
    while path[0] in MADE_FROM:
        path.insert(0, MADE_FROM[path[0]])
    return path
