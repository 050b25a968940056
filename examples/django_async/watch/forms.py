from django import forms


class SiteForm(forms.Form):
    name = forms.CharField(max_length=60)
    url = forms.URLField(label="URL", assume_scheme="http", max_length=200)
