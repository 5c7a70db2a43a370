"""Views of saved searches: keeping the gallery's filters under a name, renaming and deleting."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError, transaction
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from ..filters import Filters
from ..htmx import PageRequest
from ..models import SavedSearch
from .gallery import note_undo

MOST_SEARCHES = 50
NAME_LENGTH = 60


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def searches(request: PageRequest) -> HttpResponse:
    """All of them; a POST keeps `query` under `name`."""
    problem = query = ""
    if request.method == "POST":
        query = Filters.read(QueryDict(request.POST.get("query", "")[:2000])).query
        problem = _save(request, query)
        if not problem:
            return redirect(f"{reverse('gallery')}?{query}")
    context = {"problem": problem, "searches": _with_words(request), "name_length": NAME_LENGTH}
    if problem:
        context |= {"query": query, "name": request.POST.get("name", "")[:NAME_LENGTH]}
    return render(request, "gallery/searches.html", context, status=422 if problem else 200)


def _save(request: PageRequest, query: str) -> str:
    """Keep it; returns what is wrong, if anything."""
    name, problem = _name(request)
    own = SavedSearch.objects.owned_by(request.user)
    if problem:
        return problem
    if not query or len(query) > 1000:
        return "There is nothing to save: search for something or choose a filter first."
    if own.count() >= MOST_SEARCHES and not own.filter(name=name).exists():
        return f"You have {MOST_SEARCHES} saved searches, which is the most. Delete one to save another."
    SavedSearch.objects.update_or_create(owner=request.user, name=name, defaults={"query": query})
    messages.success(request, f"Saved as “{name}”.")
    return ""


def _name(request: PageRequest) -> tuple[str, str]:
    """The name that was typed, and what is wrong with it."""
    name = " ".join(request.POST.get("name", "").replace("\x00", "").split())
    if not name:
        return name, "Give the search a name."
    return name, f"A name has at most {NAME_LENGTH} characters." if len(name) > NAME_LENGTH else ""


def _with_words(request: PageRequest) -> list[tuple[SavedSearch, str]]:
    own = SavedSearch.objects.owned_by(request.user)
    return [(search, Filters.read(QueryDict(search.query)).words()) for search in own]


@login_required
@require_POST
def rename(request: PageRequest, pk: int) -> HttpResponse:
    search = get_object_or_404(SavedSearch.objects.owned_by(request.user), pk=pk)
    name, problem = _name(request)
    if not problem:
        try:
            with transaction.atomic():
                SavedSearch.objects.filter(pk=search.pk).update(name=name)
        except IntegrityError:
            problem = f"There is another search called “{name}”."
    if problem:
        messages.error(request, problem)
    else:
        messages.success(request, "Renamed.")
    return redirect("searches")


@login_required
@require_POST
def delete(request: PageRequest, pk: int) -> HttpResponse:
    search = get_object_or_404(SavedSearch.objects.owned_by(request.user), pk=pk)
    search.delete()
    note_undo(request, f"“{search.name}” deleted.", {"search": [search.name, search.query]})
    return redirect("searches")
