"""The one template of fields, and what becomes of Django's form fields on the way to it."""

import pytest
from django import forms
from django.template import Context, Template
from django.template.loader import render_to_string

from gallery.controls import Control
from gallery.templatetags.fields import field_of


class Form(forms.Form):
    name = forms.CharField(max_length=9, help_text="as on the door")
    amount = forms.IntegerField(min_value=1, required=False)
    colour = forms.ChoiceField(choices=[("r", "Red"), ("b", "Blue")])
    parts = forms.MultipleChoiceField(choices=[("w", "Wheel"), ("d", "Door")], required=False)
    agreed = forms.BooleanField(required=False)
    secret = forms.CharField(widget=forms.PasswordInput, required=False)
    story = forms.CharField(widget=forms.Textarea, required=False)
    picture = forms.FileField(required=False)


def draw(tag: str, form: forms.Form) -> str:
    return " ".join(Template("{% load fields %}" + tag).render(Context({"form": form})).split())


def test_a_text_has_label_limits_and_a_help_that_describes_it():
    html = draw("{% field form.name placeholder='Ada' dir='auto' %}", Form(initial={"name": "<b>"}))
    assert '<label for="id_name">' in html and 'id="id_name-hint">as on the door' in html
    for attribute in (
        'type="text"',
        'maxlength="9"',
        "required",
        'placeholder="Ada"',
        'dir="auto"',
        'value="&lt;b&gt;"',
    ):
        assert attribute in html
    assert 'aria-describedby="id_name-hint"' in html and "aria-invalid" not in html


def test_an_error_stands_at_its_field():
    html = draw("{% field form.name id='who' alert=True %}", Form({"name": ""}))
    assert 'class="field invalid"' in html and 'aria-invalid="true"' in html
    assert 'aria-describedby="who-error who-hint"' in html
    assert '<p class="field-error" id="who-error" role="alert"> This field is required. </p>' in html


@pytest.mark.parametrize(
    "name, kind",
    [
        ("name", "text"),
        ("amount", "number"),
        ("colour", "select"),
        ("agreed", "checkbox"),
        ("secret", "text"),
        ("story", "textarea"),
        ("picture", "file"),
    ],
)
def test_the_kind_follows_the_widget(name, kind):
    assert field_of(Form()[name]).kind == kind


def test_options_are_chosen_by_value():
    assert '<option value="b" selected >' in draw("{% field form.colour %}", Form({"colour": "b"}))
    group = draw("{% field form.parts kind='checkbox' %}", Form({"parts": ["d"]}))
    assert "<fieldset" in group and '<input type="checkbox" name="parts" value="d" checked >' in group
    assert '<input type="checkbox" name="parts" value="w" >' in group


def test_a_password_never_comes_back():
    html = draw("{% field form.secret %}", Form({"secret": "open sesame"}))
    assert "open sesame" not in html and 'type="password"' in html


def test_a_range_has_buttons_of_its_step():
    control = Control(name="scale", id="scale", label="Scale", kind="range", minimum=0, maximum=2, step=0.5, value=1)
    html = render_to_string("fields/_field.html", {"field": control})
    assert 'data-step="-0.5"' in html and 'data-step="0.5"' in html and 'inputmode="decimal"' in html
    assert 'aria-label="More"' in html and 'max="2"' in html


def test_a_tick_keeps_its_state():
    assert "checked" in draw("{% field form.agreed %}", Form({"agreed": "on"}))
    assert "checked" not in draw("{% field form.agreed %}", Form({}))
