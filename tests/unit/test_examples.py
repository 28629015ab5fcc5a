"""The examples in docstrings run and print what they say."""

import doctest
import importlib

import pytest

# By module: the functions and classes that must have an example.
EXAMPLES = {
    "exvo.audio.highpass": {"design_highpass", "highpass_clips"},
    "exvo.audio.denoise": {"denoise_clips", "mmse_stsa_gain"},
    "exvo.audio.vad": {"find_voice"},
    "exvo.features.logmel": {"logmel"},
    "exvo.networks.strf": {"Strf"},
    "exvo.evaluation.metrics": {"ccc", "uar", "s_mtl"},
    "exvo.evaluation.bootstrap": {"SpeakerBootstrap"},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert {test.name.removeprefix(f"{name}.") for test in tests} >= EXAMPLES[name]
    said = []
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
