"""Tables of results beside the figures of the paper."""
