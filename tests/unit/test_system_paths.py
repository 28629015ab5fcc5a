"""What a system keeps of folders and programs, and how its files are found again."""

import hashlib
import os

import pytest

from exvo.systems.local_files import LocalFiles, with_files
from exvo.training.portable_paths import without_folders

WEIGHTS = b"weights"
NOBODY = LocalFiles()


def system(ffmpeg="bundled", checkpoint=None):
    source = "bundled" if checkpoint is None else "checkpoint"
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    return {
        "stage": "raw",
        "audio": {"convert": {"ffmpeg": ffmpeg, "timeout_s": 30.0}, "highpass": {"stop_hz": 20}},
        "feature_config": {
            "source": source,
            "checkpoint": checkpoint and str(checkpoint),
            "sha256": sha256,
            "layers": [1],
        },
    }


def written(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(WEIGHTS)
    return path


@pytest.fixture(params=["results here", "results linked"])
def run(request, tmp_path, monkeypatch):
    """A working folder below one whose name must not come out; its results may be on another disk, by a link."""
    home = tmp_path / "alice/run"
    home.mkdir(parents=True)
    if request.param == "results linked":
        (tmp_path / "scratch/deep/results").mkdir(parents=True)
        (home / "results").symlink_to(tmp_path / "scratch/deep/results")
    monkeypatch.chdir(home)
    return home


FOLDER = "results/models/a/0"


@pytest.mark.parametrize("form", ["weights/base.pt", "./x/../weights/base.pt", "{home}/weights/base.pt"])
def test_a_checkpoint_in_the_working_folder_is_named_from_the_system_on_and_found_from_anywhere(
    run, form, monkeypatch
):
    written(run / "weights/base.pt")
    given = system(checkpoint=form.format(home=run))
    kept = without_folders(given, FOLDER)
    assert kept["feature_config"]["checkpoint"] == "../../../../weights/base.pt"
    monkeypatch.chdir("/")
    whole = with_files(kept, run / FOLDER, NOBODY)
    assert whole["feature_config"] == given["feature_config"] | {"checkpoint": str(run / "weights/base.pt")}
    moved = run.rename(run.with_name("moved"))
    whole = with_files(kept, moved / FOLDER, NOBODY)
    assert whole["feature_config"]["checkpoint"] == str(moved / "weights/base.pt")


def test_a_checkpoint_by_a_link_in_the_working_folder_is_in_it(run, tmp_path):
    written(tmp_path / "shared/weights/base.pt")
    (run / "weights").symlink_to(tmp_path / "shared/weights")
    kept = without_folders(system(checkpoint="weights/base.pt"), FOLDER)
    assert kept["feature_config"]["checkpoint"] == "../../../../weights/base.pt"
    assert with_files(kept, run / FOLDER, NOBODY)


@pytest.mark.parametrize("form", ["{root}/bob/base.pt", "../../bob/base.pt", "../run-2/base.pt"])
@pytest.mark.parametrize("folder", [FOLDER, "{root}/elsewhere/0"])
def test_of_a_checkpoint_elsewhere_the_name_is_kept_and_the_user_names_it(run, form, folder, tmp_path):
    given = form.format(root=tmp_path)
    place = written(run / given)
    folder = run / folder.format(root=tmp_path)
    kept = without_folders(system(checkpoint=given), folder)
    assert kept["feature_config"]["checkpoint"] == "base.pt"
    with pytest.raises(ValueError, match=r"weights base.pt of SHA-256 [0-9a-f]{64}.*--checkpoint PATH"):
        with_files(kept, folder, NOBODY)
    other = written(tmp_path / "other.pt")
    other.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"not found.*looked at: .*other\.pt"):
        with_files(kept, folder, LocalFiles(checkpoints=(other,)))
    # The name may be another; what is in the file decides.
    same = written(tmp_path / "mine" / "model.safetensors")
    for named in (place, same, same.parent):
        found = with_files(kept, folder, LocalFiles(checkpoints=(other, named)))
        assert found["feature_config"]["checkpoint"] in (str(named), str(same))


def test_a_system_in_another_place_than_its_checkpoint_names_no_folder(run, tmp_path):
    """The path between them would lead through folders above both."""
    written(run / "weights/base.pt")
    kept = without_folders(system(checkpoint="weights/base.pt"), tmp_path / "elsewhere/0")
    assert kept["feature_config"]["checkpoint"] == "base.pt"


def test_weights_that_changed_are_not_taken(run):
    path = written(run / "weights/base.pt")
    kept = without_folders(system(checkpoint="weights/base.pt"), FOLDER)
    path.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="which are not found"):
        with_files(kept, run / FOLDER, NOBODY)


@pytest.mark.parametrize("ffmpeg", ["bundled", "system"])
def test_what_names_no_file_stays(run, ffmpeg):
    given = system(ffmpeg)
    assert without_folders(given, FOLDER) == given == with_files(given, run / FOLDER, NOBODY)


@pytest.mark.parametrize("ffmpeg", ["tools/ffmpeg", "/opt/alice/ffmpeg", "~/ffmpeg", "ffmpeg5"])
def test_an_ffmpeg_of_ones_own_is_not_written_down(run, ffmpeg):
    given = system(ffmpeg)
    kept = without_folders(given, FOLDER)
    assert kept["audio"]["convert"] == {"ffmpeg": "custom", "timeout_s": 30.0}
    assert kept["audio"]["highpass"] == given["audio"]["highpass"]
    assert given["audio"]["convert"]["ffmpeg"] == ffmpeg


@pytest.mark.parametrize(
    "named", ["custom", "ffmpeg5", "./ffmpeg", "/bin/sh", os.devnull, "", None, ["system"]]
)
def test_a_model_can_name_no_program(run, named):
    with pytest.raises(ValueError, match=r"ffmpeg of its own.*--ffmpeg bundled or --ffmpeg system.*PATH"):
        with_files(system(named), run / FOLDER, NOBODY)
    for choice in ("bundled", "system", "/opt/mine/ffmpeg"):
        found = with_files(system(named), run / FOLDER, LocalFiles(ffmpeg=choice))
        assert found["audio"]["convert"]["ffmpeg"] == choice
