"""Django admin of generations, images, LoRA rules and webhooks: to look at, to cancel and to take down, never to edit
state. Actions need the right to change, taking down a superuser, and private pictures a right of their own."""

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.html import format_html

from accounts.admin import ReadOnlyAdmin, may

from .catalog import addons
from .models import GeneratedImage, GeneratedImageQuerySet, Generation, LoraRule, WebhookDelivery, WebhookEndpoint
from .prompts.lora_keywords import WORD
from .services.generations import cancel_generation
from .services.images import put_back, take_down
from .storage.serving import image_response


@admin.register(Generation)
class GenerationAdmin(ReadOnlyAdmin):
    list_display = ["short_prompt", "owner", "status", "model", "num_images", "attempt", "error_code", "created_at"]
    list_filter = ["status", "model", "source", "created_at"]
    search_fields = ["id", "prompt", "owner__email"]
    list_select_related = ["owner"]
    show_full_result_count = False
    actions = ["cancel"]

    @admin.display(description="prompt")
    def short_prompt(self, generation):
        return generation.prompt[:80]

    def has_cancel_permission(self, request) -> bool:
        return may(request, "generation.change_generation")

    @admin.action(description="Cancel selected generations", permissions=["cancel"])
    def cancel(self, request, queryset):
        outcomes = [cancel_generation(generation) for generation in queryset]
        finished = outcomes.count("already_finished")
        self.message_user(request, f"{len(outcomes) - finished} cancelled, {finished} had finished already.")


class ReasonForm(ActionForm):
    reason = forms.CharField(
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "Reason, shown to the owner", "size": 40}),
    )


@admin.register(GeneratedImage)
class GeneratedImageAdmin(ReadOnlyAdmin):
    list_display = [
        "picture",
        "number",
        "owner",
        "short_prompt",
        "visibility",
        "taken_down_at",
        "deleted_at",
        "created_at",
    ]
    list_filter = ["visibility", ("taken_down_at", admin.EmptyFieldListFilter), "created_at"]
    search_fields = ["id", "short_id", "generation__prompt", "owner__email"]
    list_select_related = ["owner", "generation"]
    show_full_result_count = False
    actions = ["take_down", "put_back"]
    action_form = ReasonForm

    def get_queryset(self, request):
        """Those that everybody may see, and with the right `view_private_image` all others too."""
        images = super().get_queryset(request)
        if may(request, "generation.view_private_image"):
            return images
        return images.filter(GeneratedImageQuerySet.PUBLISHED)

    def has_take_down_permission(self, request) -> bool:
        return request.user.is_active and request.user.is_superuser

    @admin.action(description="Take down selected images (with a reason)", permissions=["take_down"])
    def take_down(self, request, queryset):
        reason = " ".join(request.POST.get("reason", "").split())[:300]
        if not reason:
            self.message_user(request, "Give a reason first; the owner will read it.", messages.ERROR)
            return
        taken = take_down(queryset, reason, root=settings.SITE_URL or request.build_absolute_uri("/").rstrip("/"))
        self._note(request, taken, f"Taken down: {reason}")
        self.message_user(request, f"{len(taken)} taken down. Only their owners see them now; they are told by mail.")

    @admin.action(description="Put selected images back", permissions=["take_down"])
    def put_back(self, request, queryset):
        returned = put_back(queryset)
        self._note(request, returned, "Put back.")
        self.message_user(request, f"{len(returned)} put back.")

    def _note(self, request, images, message):
        if images:
            LogEntry.objects.log_actions(request.user.pk, images, CHANGE, change_message=message)

    @admin.display(description="prompt")
    def short_prompt(self, image):
        return image.generation.prompt[:80]

    @admin.display(description="picture")
    def picture(self, image):
        return format_html(
            '<img src="{}" width="64" height="64" alt="{}" loading="lazy">',
            reverse("admin:generation_generatedimage_thumbnail", args=[image.pk]),
            image.alt_text,
        )

    def get_urls(self):
        thumbnail = path(
            "<int:number>/thumbnail/",
            self.admin_site.admin_view(self.thumbnail),
            name="generation_generatedimage_thumbnail",
        )
        return [thumbnail, *super().get_urls()]

    def thumbnail(self, request, number):
        """Bytes for staff with the right to view such images; the public route would hide them."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return image_response(request, get_object_or_404(self.get_queryset(request), pk=number), "thumbnail")


class LoraRuleForm(forms.ModelForm):
    class Meta:
        model = LoraRule
        fields = ["keyword", "lora", "weight", "enabled"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["weight"] = forms.FloatField(min_value=-4, max_value=4, initial=0.8)
        installed = ", ".join(addons().loras) or "none"
        self.fields["lora"].help_text = f"Installed: {installed}."

    def clean_keyword(self):
        keyword = self.cleaned_data["keyword"]
        if not WORD.search(keyword):
            raise forms.ValidationError("This needs at least one letter or digit, or it would never be found.")
        return keyword

    def clean_lora(self):
        key = self.cleaned_data["lora"]
        if key not in addons().loras:
            raise forms.ValidationError("No LoRA of that key is installed.")
        return key


@admin.register(LoraRule)
class LoraRuleAdmin(admin.ModelAdmin):
    form = LoraRuleForm
    list_display = ["keyword", "lora", "weight", "enabled"]
    list_filter = ["enabled"]
    search_fields = ["keyword", "lora"]


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnlyAdmin):
    list_display = ["url", "owner", "enabled", "failing_since", "disabled_reason", "created_at"]
    list_filter = ["enabled", "created_at"]
    search_fields = ["url", "owner__email"]
    list_select_related = ["owner"]
    exclude = ["secret", "previous_secret"]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ["event", "endpoint", "state", "attempts", "answer_status", "problem", "created_at"]
    list_filter = ["state", "event", "created_at"]
    search_fields = ["id", "subject", "endpoint__url"]
    list_select_related = ["endpoint"]
    show_full_result_count = False
