"""The dialect of AUTOMATIC1111's web UI, `/sdapi/v1`: adapters between its words and `services`.

What that program keeps globally (options, progress, interrupt) is kept for each API key here.
"""
