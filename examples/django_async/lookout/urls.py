"""URL configuration for lookout project."""

from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [path("", include("watch.urls")), path("chat/", include("chat.urls")), *staticfiles_urlpatterns()]
