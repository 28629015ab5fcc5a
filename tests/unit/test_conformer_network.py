"""The sequence network: outputs, standardisation, independence of the batch, seeds, and what is kept."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from exvo.corpus.labels import TASKS
from exvo.networks.conformer_network import LEAST_SD, ConformerNetwork, ConformerNetworkConfig
from exvo.networks.heads import MultitaskDecoder
from exvo.networks.losses import CombinedLoss

N_MELS = 20
SMALL = {
    "blocks": {
        "d_model": 16,
        "n_heads": 2,
        "ffn": 24,
        "n_blocks": 2,
        "kernel": 7,
        "subsampling_channels": 4,
        "dropout": 0.1,
    },
    "strf": {"n_kernels": 3, "support_frames": 7, "support_channels": 5},
    "d_attention": 6,
    "head": 8,
}
MEAN = np.linspace(-10, -4, N_MELS)
STD = np.linspace(1, 3, N_MELS)
FRONTENDS = ("logmel", "strf")


@pytest.fixture(autouse=True)
def one_thread():
    """Threads wait for each other when tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_network(seed=0, mean=MEAN, std=STD, age_mean=28.0, age_std=5.0, **options):
    config = ConformerNetworkConfig.from_dict({**SMALL, **options})
    return ConformerNetwork(config, N_MELS, 4, mean, std, age_mean, age_std, seed)


def make_batch(lengths=(30, 1, 17, 52), n_frames=60, fill=0.0, seed=0):
    rng = np.random.default_rng(seed)
    logmel = (MEAN + STD * rng.normal(size=(len(lengths), n_frames, N_MELS))).astype(np.float32)
    for row, n in zip(logmel, lengths, strict=True):
        row[n:] = fill
    return torch.from_numpy(logmel), torch.tensor(lengths)


def make_targets(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        "emotion": torch.rand(n, 10, generator=rng),
        "age": 20 + 19 * torch.rand(n, generator=rng),
        "country": torch.randint(0, 4, (n,), generator=rng),
    }


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_outputs_are_intensities_years_and_logits(frontend):
    outputs = make_network(frontend=frontend)(*make_batch())
    assert {task: tuple(output.shape) for task, output in outputs.items()} == {
        "emotion": (4, 10),
        "age": (4,),
        "country": (4, 4),
    }
    assert ((outputs["emotion"] >= 0) & (outputs["emotion"] <= 1)).all()
    assert ((outputs["age"] > 15) & (outputs["age"] < 40)).all()  # near the mean before any training
    assert all(output.dtype == torch.float32 for output in outputs.values())


@pytest.mark.parametrize("tasks", [("emotion",), ("age",), ("country",), ("country", "emotion"), TASKS])
def test_any_subset_of_tasks_has_outputs_for_these_only(tasks):
    network = make_network(tasks=tasks)
    assert tuple(network(*make_batch())) == tasks
    assert set(network.decoder.heads) == set(tasks)


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("fill", [0.0, -300.0, math.nan])
def test_a_clip_alone_gives_what_it_gives_in_any_batch(frontend, fill):
    network = make_network(frontend=frontend).eval()
    rng = np.random.default_rng(1)
    lengths = tuple(rng.integers(1, 60, 7).tolist())
    logmel, n = make_batch(lengths, fill=fill)
    with torch.no_grad():
        together = network(logmel, n)
        for row, length in enumerate(lengths):
            alone = network(logmel[row : row + 1, :length], n[row : row + 1])
            for task in TASKS:
                torch.testing.assert_close(together[task][row], alone[task][0], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_level_and_scale_of_the_logmel_do_not_matter_with_their_moments(frontend):
    logmel, lengths = make_batch()
    first = make_network(frontend=frontend).eval()(logmel, lengths)
    second = make_network(frontend=frontend, mean=3 * MEAN + 7, std=3 * STD).eval()(3 * logmel + 7, lengths)
    for task in TASKS:
        torch.testing.assert_close(first[task], second[task], rtol=0, atol=1e-4)


def test_moments_are_applied_per_channel():
    network = make_network().eval()
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    logmel, lengths = make_batch()
    network(logmel, lengths)
    expected = (logmel[0, :30].numpy() - MEAN) / STD
    np.testing.assert_allclose(seen[0][0, 0, :30], expected, atol=1e-5)
    assert (seen[0][0, 0, 30:] == 0).all()


def test_a_channel_that_does_not_vary_stays_small():
    network = make_network(std=np.zeros(N_MELS))
    assert (network.std == LEAST_SD).all()
    assert all(o.isfinite().all() for o in network(*make_batch()).values())


def test_age_head_works_in_deviations_of_train():
    network = make_network(age_mean=31.0, age_std=4.0).eval()
    raw = make_network(age_mean=0.0, age_std=1.0).eval()
    batch = make_batch()
    torch.testing.assert_close(network(*batch)["age"], 31 + 4 * raw(*batch)["age"])
    assert make_network(age_std=0.0).decoder.age_std == 1


def test_encoder_and_decoder_are_forward_in_two_steps():
    network = make_network().eval()
    frames, lengths = network.encode(*make_batch())
    assert frames.shape == (4, 15, 16)
    assert lengths.tolist() == [8, 1, 5, 13]
    for task, output in network.decoder(frames, lengths).items():
        torch.testing.assert_close(output, network(*make_batch())[task])


def test_decoder_stands_behind_any_encoder():
    decoder = MultitaskDecoder(768, ("emotion", "country"), 3, d_attention=8, head=16)
    outputs = decoder(torch.randn(2, 50, 768), torch.tensor([50, 9]))
    assert {task: tuple(output.shape) for task, output in outputs.items()} == {
        "emotion": (2, 10),
        "country": (2, 3),
    }


def test_each_task_pools_for_itself():
    network = make_network()
    network(*make_batch())["age"].sum().backward()
    moved = {
        task: any(p.grad is not None and p.grad.abs().sum() > 0 for p in pooling.parameters())
        for task, pooling in network.decoder.poolings.items()
    }
    assert moved == {"emotion": False, "age": True, "country": False}


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (make_network(seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["encoder.subsampling.linear.weight"], other["encoder.subsampling.linear.weight"]
    )


def test_encoder_starts_the_same_whatever_the_tasks():
    joint, single = (make_network(tasks=tasks).encoder.state_dict() for tasks in (TASKS, ("age",)))
    assert all(torch.equal(joint[name], single[name]) for name in joint)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_weights_alone_carry_the_moments(frontend):
    trained = make_network(frontend=frontend).eval()
    blank = make_network(9, np.zeros(N_MELS), np.ones(N_MELS), 0.0, 1.0, frontend=frontend).eval()
    state = {name: value.contiguous() for name, value in trained.state_dict().items()}
    assert all(state[name].data_ptr() == value.data_ptr() for name, value in trained.state_dict().items())
    blank.load_state_dict(state)
    for task, output in blank(*make_batch()).items():
        torch.testing.assert_close(output, trained(*make_batch())[task])


def test_config_survives_json():
    config = ConformerNetworkConfig.from_dict({**SMALL, "frontend": "strf", "tasks": ["age", "emotion"]})
    assert config.blocks.d_model == 16
    assert config.strf.n_kernels == 3
    assert ConformerNetworkConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    assert ConformerNetworkConfig.from_dict({}) == ConformerNetworkConfig()


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("combination", ["weighted", "uncertainty"])
def test_every_parameter_learns(frontend, combination):
    network, loss = make_network(frontend=frontend), CombinedLoss(combination=combination)
    # An odd number of clips: the signs of an absolute error's gradient cannot cancel.
    batch, targets = make_batch((30, 1, 17, 52, 8)), make_targets(5)
    parameters = [*network.named_parameters(), *loss.named_parameters()]
    loss(network(*batch), targets)[0].backward()
    # The bias of the keys shifts all of a query's scores alike, which a softmax does not see; it shares its
    # parameter with queries and values.
    assert [name for name, p in parameters if p.grad is None or not (p.grad != 0).any()] == []


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_few_clips_can_be_learned_by_heart(frontend):
    torch.manual_seed(0)  # dropout
    network, loss = make_network(frontend=frontend), CombinedLoss()
    batch, targets = make_batch(), make_targets(4)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    totals = []
    for _ in range(60):
        optimiser.zero_grad()
        total, _ = loss(network(*batch), targets)
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < 0.4 * totals[0]


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_runs_under_autocast(frontend):
    network, loss = make_network(frontend=frontend), CombinedLoss()
    logmel, lengths = make_batch(fill=math.nan)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(logmel, lengths)
        total, _ = loss(outputs, make_targets(4))
    total.backward()
    assert all(output.dtype == torch.float32 for output in outputs.values())
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"tasks": ()}, "tasks"),
        ({"tasks": ("age", "mood")}, "tasks"),
        ({"frontend": "mfcc"}, "frontend"),
        ({"age_mean": math.nan}, "age"),
        ({"mean": np.zeros(3)}, "mean"),
        ({"std": np.full(N_MELS, np.nan)}, "std"),
    ],
)
def test_impossible_choices_are_refused_by_name(options, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        make_network(**options)


def test_age_statistics_are_not_needed_without_age():
    assert set(make_network(tasks=("emotion",), age_mean=math.nan)(*make_batch())) == {"emotion"}
