"""The upscalers on offer, by name. No torch here; `upscale` does the work."""

UPSCALERS = ("lanczos", "nearest")
"""The first is the default. Models found in `<models_dir>/upscalers/` join them (see `upscale`)."""
