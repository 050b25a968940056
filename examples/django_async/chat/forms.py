from django import forms

from .models import NAME_LENGTH, TEXT_LENGTH


class NameForm(forms.Form):
    name = forms.CharField(
        max_length=NAME_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "nickname", "autofocus": True, "spellcheck": "false"}),
    )


class ArrivalForm(forms.Form):
    """From a page that connects: the number of the last message that it has seen."""

    after = forms.IntegerField(min_value=0)


class BeforeForm(forms.Form):
    """From a page that asks for earlier messages: the number of the first message that it has."""

    before = forms.IntegerField(min_value=1)


class MessageForm(forms.Form):
    key = forms.UUIDField()
    text = forms.CharField(max_length=TEXT_LENGTH)


class HereForm(forms.Form):
    """From a page that is still open: its id."""

    page = forms.UUIDField()
