"""Streams and events. Every call has finished when it returns, so they only keep names and times."""

import torch

from torch_npu.npu._state import device_index


class Stream(torch.Stream):
    """A stream of one device. ``kwargs`` name one that exists (``stream_id``, ``device_index``, ``device_type``)."""

    def __new__(cls, device=None, priority=0, **kwargs):
        if kwargs:
            return super().__new__(cls, **kwargs)
        return super().__new__(cls, torch.device("npu", device_index(device)), priority=priority)

    @property
    def npu_stream(self):
        return self.stream_id

    def record_event(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        event.wait(self)

    def wait_stream(self, stream):
        """Nothing to wait for: what was given to ``stream`` has been done."""

    def __repr__(self):
        return f"<torch_npu.npu.Stream device={self.device} npu_stream={self.npu_stream:#x}>"


class Event:
    """A point in a stream; with ``enable_timing`` a time stamp as well."""

    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        self._event = torch.Event("npu", enable_timing=enable_timing, blocking=blocking, interprocess=interprocess)

    def record(self, stream=None):
        self._event.record(stream)

    def wait(self, stream=None):
        self._event.wait(stream)

    def query(self):
        return self._event.query()

    def elapsed_time(self, end_event):
        """Milliseconds from here to ``end_event``."""
        return self._event.elapsed_time(end_event._event)

    def synchronize(self):
        self._event.synchronize()
