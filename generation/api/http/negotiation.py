"""Content negotiation: every answer is JSON, whatever the Accept header or a `format` parameter says.

Event streams are asked for with `Accept: text/event-stream`, and `format` names picture formats here.
"""

from rest_framework.negotiation import DefaultContentNegotiation


class AlwaysTheFirst(DefaultContentNegotiation):
    def select_renderer(self, request, renderers, format_suffix=None):
        return renderers[0], renderers[0].media_type
