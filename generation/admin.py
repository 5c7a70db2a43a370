"""Django admin of generations, images, LoRA rules and webhooks: to look at and to cancel, never to edit state."""

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.html import format_html

from accounts.admin import ReadOnlyAdmin

from .catalog import addons
from .models import GeneratedImage, Generation, LoraRule, WebhookDelivery, WebhookEndpoint
from .prompts.lora_keywords import WORD
from .services.generations import cancel_generation
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

    @admin.action(description="Cancel selected generations")
    def cancel(self, request, queryset):
        outcomes = [cancel_generation(generation) for generation in queryset]
        finished = outcomes.count("already_finished")
        self.message_user(request, f"{len(outcomes) - finished} cancelled, {finished} had finished already.")


@admin.register(GeneratedImage)
class GeneratedImageAdmin(ReadOnlyAdmin):
    list_display = ["picture", "number", "owner", "short_prompt", "visibility", "favourite", "deleted_at", "created_at"]
    list_filter = ["visibility", "created_at"]
    search_fields = ["id", "short_id", "generation__prompt", "owner__email"]
    list_select_related = ["owner", "generation"]
    show_full_result_count = False

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
        """Bytes for staff with the right to view images; the public route would hide private ones from them."""
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
