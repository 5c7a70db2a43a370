"""The dialect of AUTOMATIC1111's web UI, `/sdapi/v1`: its requests and answers, translated to our services.

What that program keeps globally (options, progress, interrupt) is kept for each API key here.
"""
