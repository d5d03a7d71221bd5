"""Logs of shown advertisements: from text of any size to impressions, in bounded memory, chunk by chunk."""
