"""Header blocks (HPACK) against those of `hpack`."""

from __future__ import annotations

import hpack
from hypothesis import given
from hypothesis import strategies as st

from gearshift.http2.header_blocks import HeaderReader, changes_table, write
from http2_pair import (
    HEADERS,
)

FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b-long-name", b"grpc-timeout", b":path"]),
        st.sampled_from([b"", b"1", b"9999m", b"x" * 300, bytes(range(128, 200))]),
    ),
    max_size=8,
)


@given(st.lists(FIELDS, max_size=30), st.sampled_from([4096, 100, 0]))
def test_a_remembered_block_means_what_it_meant(lists, table):
    encoder, reader = hpack.Encoder(), HeaderReader(list, 65_536)
    encoder.header_table_size = table
    for fields in lists:
        whole = [(name.encode(), value.encode()) for name, value in HEADERS] + fields
        read = reader.read(encoder.encode(whole))
        twice = any(name == b":path" for name, _ in fields)
        assert read.meaning == (None if twice else whole)
        assert bool(read.request_fault) == twice
        assert read.trailers_fault


@given(st.lists(FIELDS, min_size=1, max_size=30), st.sampled_from([4096, 100, 0]))
def test_a_block_changes_the_table_exactly_if_the_decoders_table_says_so(lists, table):
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    encoder.header_table_size = table
    for fields in lists:
        block = encoder.encode([*fields, hpack.NeverIndexedHeaderTuple(b"secret", b"x" * 200)])
        kept = decoder.header_table.dynamic_entries
        before = list(kept), kept.maxlen, decoder.header_table_size
        decoder.decode(block, raw=True)
        after = list(kept), kept.maxlen, decoder.header_table_size
        if before != after:
            assert changes_table(block)
    assert not changes_table(encoder.encode([(b":method", b"POST")]))
    assert not changes_table(write(lists[0]))
    assert changes_table(encoder.encode([(b"never", b"seen")]))


@given(FIELDS)
def test_blocks_written_here_are_read_by_others(fields):
    assert hpack.Decoder().decode(write(fields), raw=True) == fields
