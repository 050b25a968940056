from django import forms
from django.core.validators import FileExtensionValidator

from .models import Document, Movement, Part

LARGEST_DOCUMENT = 10 * 1024 * 1024


class PartForm(forms.ModelForm):
    class Meta:
        model = Part
        fields = ("number", "name", "reorder_below", "notes")


class MoveForm(forms.ModelForm):
    class Meta:
        model = Movement
        fields = ("part", "source", "target", "quantity")

    def clean(self):
        cleaned = super().clean()
        if cleaned.get("source") and cleaned.get("source") == cleaned.get("target"):
            self.add_error("target", "Choose two different warehouses.")
        return cleaned


class DocumentForm(forms.ModelForm):
    file = forms.FileField(
        validators=[FileExtensionValidator(["pdf", "txt", "png", "jpg", "jpeg", "zip"])],
        help_text="PDF, text, picture or ZIP, at most 10 MB.",
    )

    class Meta:
        model = Document
        fields = ("title", "file")

    def clean_file(self):
        file = self.cleaned_data["file"]
        if file.size > LARGEST_DOCUMENT:
            raise forms.ValidationError("This file is larger than 10 MB.")
        return file
