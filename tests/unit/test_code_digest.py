import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import exvo.util.atomic
import exvo.util.code_digest
from exvo.util.code_digest import canonical_json, code_digest, digest, import_closure


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": [1, {"d": 2, "c": 3}]}) == canonical_json(
        {"a": [1, {"c": 3, "d": 2}], "b": 1}
    )
    assert json.loads(canonical_json({"a": 0.1})) == {"a": 0.1}
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_digest_gives_where_parts_end():
    assert digest(["ab", "c"]) != digest(["a", "bc"]) != digest(["abc"])


def test_the_closure_holds_what_a_module_imports_and_no_more():
    closure = import_closure("exvo.audio.stage_vad")
    assert {"exvo.audio.stage_vad", "exvo.audio.vad", "exvo.audio.store", "exvo.util.atomic"} <= closure
    assert not {
        name for name in closure if name.startswith(("exvo.networks", "exvo.features", "exvo.audio.denoise"))
    }


@pytest.mark.parametrize(
    "module",
    [
        "exvo.audio.convert",
        "exvo.audio.stage_dc",
        "exvo.audio.stage_denoised",
        "exvo.audio.stage_vad",
        "exvo.audio.quality",
        "exvo.features.opensmile",
        "exvo.features.logmel",
        "exvo.systems.mlp",
        "exvo.report.outcome",
        "exvo.report.figures.highpass",
    ],
)
def test_the_closure_covers_what_python_really_imports(module):
    code = f"import sys, {module}; print(*[name for name in sys.modules if name.split('.')[0] == 'exvo'])"
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    root = Path(exvo.__file__).parents[1]
    packages = {name for name in loaded - import_closure(module) if root.joinpath(*name.split(".")).is_dir()}
    # A package's __init__ holds a docstring only, so its code is nothing to miss.
    for package in packages:
        assert __import__(package, fromlist=["x"]).__doc__
    assert loaded - packages <= import_closure(module)


@pytest.fixture
def package(tmp_path):
    """A package of its own with this one's digest module and its import, since the digests of this one are cached."""
    (tmp_path / "exvo/util").mkdir(parents=True)
    for folder in ("exvo", "exvo/util"):
        (tmp_path / folder / "__init__.py").touch()
    for module in (exvo.util.code_digest, exvo.util.atomic):
        shutil.copy(module.__file__, tmp_path / "exvo/util")
    return tmp_path / "exvo"


def digest_of(package, text, before="pass", **environment):
    """Write the module ``part`` of the package; return its digest, found by a process of its own."""
    (package / "part.py").write_text(textwrap.dedent(text))
    code = f"from exvo.util.code_digest import code_digest; {before}; print(code_digest('exvo.part'))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(package.parent), **environment},
    )  # fmt: skip
    return run.stdout


FUNCTION = "def f(x):\n    return x + 1\n"


def test_comments_and_docstrings_do_not_count_and_code_does(package):
    plain = digest_of(package, FUNCTION)
    commented = '"""Doc."""\n# why\ndef f(x):\n    """Doc."""\n    return x + 1  # here\n'
    assert digest_of(package, commented) == plain
    assert digest_of(package, "def f(x):\n    return x + 2\n") != plain


def test_a_source_is_read_once_and_again_when_it_changes(package):
    def no_reading(text):
        return digest_of(package, text, before="import ast; ast.parse = None")

    plain = digest_of(package, FUNCTION)
    assert no_reading(FUNCTION) == plain  # nothing was parsed
    with pytest.raises(subprocess.CalledProcessError):
        no_reading(FUNCTION + "\n\ndef g(): ...\n")
    (package / "other.py").write_text("Y = 1\n")
    imports = digest_of(package, "import exvo.other\n")
    (package / "other.py").write_text("Y = 2\n")
    assert digest_of(package, "import exvo.other\n") != imports


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"a": 1}', '{"a": [["exvo"], 1]}'])
def test_what_was_kept_is_not_trusted_blindly(package, kept):
    plain = digest_of(package, FUNCTION)
    (path,) = (package / "__pycache__").glob("code_digests.*.json")
    whole = path.read_text()
    path.write_text(kept)
    assert digest_of(package, FUNCTION) == plain
    assert path.read_text() == whole


def test_nothing_is_kept_where_python_keeps_nothing(package):
    kept = digest_of(package, FUNCTION, PYTHONDONTWRITEBYTECODE="1")
    assert not (package / "__pycache__").exists()
    (package / "__pycache__").touch()  # a folder that cannot be written, even by root
    assert digest_of(package, FUNCTION) == kept


def test_modules_that_are_not_there_are_an_error():
    with pytest.raises(ModuleNotFoundError):
        code_digest("exvo.nothing")


def test_canonical_json_can_be_written_in_utf8_whatever_a_file_is_called():
    name = b"00001.\xff".decode("utf-8", "surrogateescape")
    text = canonical_json({"file": name})
    assert json.loads(text.encode("utf-8").decode("utf-8")) == {"file": name}
