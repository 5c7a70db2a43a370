"""Signed, expiring URLs of finished images, which open for five minutes without a key.

Many programs hand `data[].url` on to something that has no key: a browser, a chat, a second service. Afterwards the
same address opens for those who may see the picture anyway, by key or session.
"""

from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.core import signing
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.authentication import user_of
from accounts.models import User
from generation.api.http.requests import ApiRequest, absolute_url
from generation.models import GeneratedImage
from generation.storage.serving import converted_response, image_response

SECONDS = 300
"""A link that leaks must be dead by then."""
SALT = "openai-picture"
ENDINGS = {"png": "png", "jpg": "jpeg", "webp": "webp"}
"""Of file names, and the formats they stand for. Some programs name their copy after the address."""


def signed_url(request: ApiRequest, image: GeneratedImage, format: str, quality: int) -> str:
    """The absolute address of a picture of the caller, in that format; `quality` (1 to 100) is for jpeg and webp."""
    path = reverse(f"openai-picture-{format}", args=[image.id])
    signature = signing.dumps([str(image.id), request.user.pk, quality], salt=SALT)
    return absolute_url(request, f"{path}?signature={signature}")


@require_safe
def picture(request: HttpRequest, image_id: UUID, format: str) -> HttpResponseBase:
    """The bytes, for whoever has a signature that is young enough, else for those who may see the picture."""
    user, quality = _read_signature(request, image_id)
    # A signature opens for anybody who has the address, so what was taken down stays shut, the owner's own included.
    images = GeneratedImage.objects.visible_to(user).kept().filter(taken_down_at=None).select_related("generation")
    image = get_object_or_404(images, id=image_id)
    if format == "png":
        return image_response(request, image, "file")
    return converted_response(request, image, format=format, quality=quality, strip=False)


def _read_signature(request: HttpRequest, image_id: UUID) -> tuple[User | AnonymousUser, int]:
    """The user as whom the caller looks, and the quality to encode with. Raises Http404 for a signature not of ours."""
    signature = request.GET.get("signature", "")
    try:
        signed_id, owner, quality = signing.loads(signature, salt=SALT)
    except (signing.BadSignature, ValueError):
        raise Http404 from None
    if signed_id != str(image_id):
        raise Http404
    try:
        signing.loads(signature, salt=SALT, max_age=SECONDS)
    except signing.SignatureExpired:
        return user_of(request), quality
    return User.objects.filter(pk=owner, is_active=True).first() or AnonymousUser(), quality
