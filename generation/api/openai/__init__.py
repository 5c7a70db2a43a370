"""The images API of OpenAI, so that its clients work unchanged: `/v1/images/…` and `/v1/models`."""
