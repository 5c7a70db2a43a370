"""URLs of the API documentation page."""

from django.urls import path

from . import schema

urlpatterns = [path("", schema.page, name="api-docs")]
