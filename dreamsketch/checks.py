"""Django system checks: unknown models, and test settings on a site that people use."""

from django.conf import settings
from django.core.checks import Error, Tags, register

from generation.catalog import catalog, model_named
from generation.engine.catalog.models import MODELS
from generation.engine.errors import UnknownModel


@register("dreamsketch")
def models_are_known(app_configs, **kwargs):
    """ENABLED_MODELS and DEFAULT_MODEL name models of the catalogue, the default an enabled one."""
    try:
        catalog()
    except UnknownModel as error:
        return [
            Error(
                f"ENABLED_MODELS: {error}",
                id="dreamsketch.E001",
                hint=f"The catalogue has: {', '.join(spec.key for spec in MODELS)}.",
            )
        ]
    try:
        model_named(None)
    except UnknownModel as error:
        keys = ", ".join(spec.key for spec in catalog())
        return [Error(f"DEFAULT_MODEL: {error}", id="dreamsketch.E002", hint=f"Offered here: {keys}.")]
    return []


@register(Tags.security, deploy=True)
def nothing_is_for_tests(app_configs, **kwargs):
    """A site that people use neither draws fake pictures nor breaks on purpose."""
    if settings.DEBUG:
        return []
    errors = []
    if settings.DREAMSKETCH_ENGINE == "fake":
        errors.append(
            Error(
                "DREAMSKETCH_ENGINE=fake draws test pictures.",
                id="dreamsketch.E003",
                hint="Remove it, or set it to torch.",
            )
        )
    if settings.FAULTS_ALLOWED:
        errors.append(Error("FAULTS_ALLOWED lets prompts break workers.", id="dreamsketch.E004", hint="Remove it."))
    return errors
