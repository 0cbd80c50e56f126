"""Sizes of the protocol that are no settings; what can be set is in `gearshift.core.limits`."""

MAX_FRAME = 256 * 1024
"""Bytes of a frame from the peer. Large tensors in few pieces, small enough to share the line."""

LARGE = 16 * 1024
"""Bytes from which on a DATA frame is taken as it comes, in parts."""

STREAM_WINDOW = 4 * 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
"""Bytes that a peer may send ahead, on a stream and in all."""

MAX_CONTROL = 16 * 1024
"""Bytes of a frame that is neither DATA nor HEADERS: what every peer takes."""

AHEAD = 256 * 1024
"""Bytes of answers that waited and are written in one turn of the loop; whoever does not read them
is not written more."""

PROGRESS = 16 * 1024
"""Bytes that a caller has to read of a waiting answer for its time to begin anew."""

BOMB = 128
"""As many cancelled calls as this costs a message that has to be unpacked to be found too large."""

TINY = 4
"""Bytes of DATA or of a WINDOW_UPDATE up to which it counts as saying nothing: less than the
prefix of a message."""
