"""The root URLconf. Each app's part lies beside its views."""

from allauth.account.decorators import secure_admin_login
from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from generation.api.native import inference, site

from . import views
from .root import root

admin.site.login = secure_admin_login(admin.site.login)
admin.site.site_header = admin.site.site_title = "DreamSketch"

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("users/sign_in", views.to_login),
    path("users/sign_up", views.to_signup),
    path(settings.MEDIA_URL.removeprefix("/"), include("generation.storage.urls")),
    path("api", site.index),
    path("api/", include("generation.api.native.urls")),
    path("sdapi/v1/", include("generation.api.a1111.urls")),
    path("internal/", include("generation.api.a1111.internal_urls")),
    path("inference/images/generations", inference.generations, name="inference"),
    path("inference/images/generations/", inference.generations),
    path("v1/", include("generation.api.openai.urls")),
    path("docs/api/", include("generation.api.http.docs_urls")),
    path("admin/", admin.site.urls),
    path("", root, name="home"),
    path("", include("gallery.urls")),
]

handler400 = "dreamsketch.views.bad_request"
handler403 = "dreamsketch.views.forbidden"
handler404 = "dreamsketch.views.not_found"
handler500 = "dreamsketch.views.server_error"
