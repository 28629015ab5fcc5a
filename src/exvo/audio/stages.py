"""The chain of stages of a recording: where each comes from and which section of the config sets it."""

# Which folder of the corpus a decoded stage reads, and what each other stage is made from.
SOURCE_FOLDER = {"baseline": "wav", "raw": "raw"}
MADE_FROM = {"dc": "raw", "denoised": "dc", "vad": "denoised"}
STAGES = ("baseline", "raw", "dc", "denoised", "vad")
# Speeds at which Train is played again for systems with `speed_perturbation`.
SPEEDS = (0.9, 1.1)
# The section of the config, under `audio`, that sets a stage.
SECTION = {"baseline": "convert", "raw": "convert", "dc": "highpass", "denoised": "denoise", "vad": "vad"}


def stage_path(stage: str) -> list[str]:
    """Return the stages from the recording to a stage, in order."""
    path = [stage]
    while path[0] in MADE_FROM:
        path.insert(0, MADE_FROM[path[0]])
    return path
