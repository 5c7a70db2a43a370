"""The pages for everybody: home, prices and the guides."""

from django.conf import settings
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from accounts.plans import FREE, PLANS
from generation.api.native import site as api
from generation.catalog import catalog
from generation.engine.request.fields import MAX_PROMPT_CHARACTERS
from generation.models import GeneratedImage, Visibility
from generation.prompts.ideas import SUGGESTIONS, suggestions
from generation.prompts.styles import STYLES

STRIP_IMAGES = 12


@require_safe
@vary_on_headers("Accept")
def home(request):
    if request.accepts("application/json") and not request.accepts("text/html"):
        return api.info(request)
    if request.user.is_authenticated:
        prompt = request.GET.get("prompt", "")
        return redirect(f"{reverse('create')}?{urlencode({'prompt': prompt})}" if prompt else "create")
    public = GeneratedImage.objects.visible_to(request.user).filter(visibility=Visibility.PUBLIC)
    return render(
        request,
        "home.html",
        {
            "strip": public.select_related("generation")[:STRIP_IMAGES],
            "ideas": suggestions(5),
            "plans": PLANS.values(),
            "max_prompt": MAX_PROMPT_CHARACTERS,
        },
    )


@require_safe
def pricing(request):
    return render(request, "pricing.html", {"plans": PLANS.values(), "free": FREE, "trash_days": settings.TRASH_DAYS})


@require_safe
def docs(request):
    return render(request, "docs/index.html")


@require_safe
def docs_prompts(request):
    return render(
        request,
        "docs/prompts.html",
        {"moods": SUGGESTIONS, "styles": STYLES.values(), "models": catalog(), "max_prompt": MAX_PROMPT_CHARACTERS},
    )
