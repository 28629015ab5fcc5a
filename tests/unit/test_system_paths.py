import os

import pytest

from exvo.models.system_paths import with_folders, without_folders


def system(ffmpeg, checkpoint):
    return {
        "stage": "raw",
        "audio": {"convert": {"ffmpeg": ffmpeg, "timeout_s": 30.0}},
        "feature_config": {"checkpoint": checkpoint, "layers": [1]},
    }


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A working folder whose results are on another disk, by a link."""
    (tmp_path / "run").mkdir()
    (tmp_path / "scratch/deep/results").mkdir(parents=True)
    (tmp_path / "run/results").symlink_to(tmp_path / "scratch/deep/results")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("checkpoint", ["weights/base.pt", "../base.pt", "{}/base.pt", None])
@pytest.mark.parametrize("ffmpeg", ["tools/ffmpeg", "{}/ffmpeg"])
def test_paths_are_kept_from_the_folder_on_and_found_again_from_anywhere(
    run, ffmpeg, checkpoint, monkeypatch
):
    given = system(ffmpeg.format(run.parent), checkpoint and checkpoint.format(run.parent))
    kept = without_folders(given, "results/models/a/0")
    assert str(run.parent) not in str(kept)
    folder = run / "results/models/a/0"
    monkeypatch.chdir("/")
    whole = with_folders(kept, folder)
    assert whole["audio"]["convert"]["ffmpeg"] == os.path.normpath(run / given["audio"]["convert"]["ffmpeg"])
    expected = checkpoint and os.path.normpath(run / given["feature_config"]["checkpoint"])
    assert whole["feature_config"] == {"checkpoint": expected, "layers": [1]}


@pytest.mark.parametrize("ffmpeg", ["bundled", "system", "ffmpeg5"])
def test_what_is_no_path_stays(run, ffmpeg):
    given = system(ffmpeg, None)
    assert without_folders(given, "results/models/a/0") == given == with_folders(given, "results/models/a/0")
