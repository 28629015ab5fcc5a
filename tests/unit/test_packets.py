import pytest

from exvo.audio.packets import read_packets

HEAD = b"""#extradata 0:       19, 0x3a04048f
#software: Lavf63.1.102
#tb 0: 1/1000
#media_type 0: audio
#codec_id 0: opus
#sample_rate 0: 48000
#channel_layout_name 0: 9 channels
"""


def packets(*starts, duration=20):
    lines = [
        f"0, {start:10}, {start:10}, {duration:8}, 307, 0x47689b02, S=1, Skip Samples, 10, 0x02"
        for start in starts
    ]
    return HEAD + "\n".join(lines).encode() + b"\n"


def one(output):
    (stream,) = read_packets(output, 1)
    return stream


def test_a_stream_is_reported_by_its_header():
    stream = one(packets(-7, 14))
    assert (stream.codec, stream.sample_rate, stream.channels) == ("opus", 48_000, "9 channels")


def test_streams_are_kept_apart():
    other = HEAD.replace(b" 0: ", b" 1: ").replace(b"opus", b"aac") + b"1, 0, 0, 1024, 9, 0x00\n"
    first, second, third = read_packets(packets(0, 20) + other, 3)
    assert (first.codec, second.codec, third.codec) == ("opus", "aac", "")
    assert first.span_s == pytest.approx(0.04) and second.span_s is None and third.span_s is None


@pytest.mark.parametrize("duration", [0, -5, 4294919488, 20, 900])
def test_the_span_is_from_the_first_packet_to_the_end_of_the_last(duration):
    # Whatever nonsense the last one's duration is; a gap is part of it.
    assert one(packets(-7, 13, 33, 53, 1073, 1093, duration=duration)).span_s == pytest.approx(1.12)


def test_a_last_packet_that_is_cut_short_counts_so():
    assert one(packets(0, 20, 40, duration=6)).span_s == pytest.approx(0.046)


def test_stamps_that_begin_anew_are_seen():
    assert one(packets(0, 20, 40, *[40] * 9)).restarts and one(packets(*[0, 20, 40, 60] * 9)).restarts
    # Not so a few that are out of order.
    assert not one(packets(0, 40, 20, 60)).restarts and not one(packets(0)).restarts


def test_an_output_that_is_cut_off_or_says_other_things_is_read_as_far_as_it_goes():
    whole = packets(0, 20, 40)
    for n in range(len(whole)):
        one(whole[:n])
    assert one(b"").codec == "" and one(b"0, NOPTS, NOPTS, 0, 5, 0x1\n").span_s is None
    assert one(HEAD.replace(b"9 channels", b"\xff\n\n")).channels == ""
