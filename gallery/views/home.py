"""Views of the public pages: home, pricing and the guides."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts.plans import FREE, PLANS
from generation.catalog import catalog
from generation.engine.request.fields import MAX_PROMPT_CHARACTERS
from generation.models import GeneratedImage, Visibility
from generation.prompts.ideas import SUGGESTIONS, suggestions
from generation.prompts.styles import STYLES

STRIP_IMAGES = 12


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The home page; people who are signed in go to the Create page. Programs get JSON: `dreamsketch.views.root`."""
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
def pricing(request: HttpRequest) -> HttpResponse:
    return render(request, "pricing.html", {"plans": PLANS.values(), "free": FREE, "trash_days": settings.TRASH_DAYS})


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "docs/index.html")


@require_safe
def docs_prompts(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "docs/prompts.html",
        {"moods": SUGGESTIONS, "styles": STYLES.values(), "models": catalog(), "max_prompt": MAX_PROMPT_CHARACTERS},
    )
