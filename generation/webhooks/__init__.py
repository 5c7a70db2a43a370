"""Outgoing webhooks, in the format of Standard Webhooks: endpoints, events, signatures, delivery, egress."""
