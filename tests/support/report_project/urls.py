from django.urls import include, path, re_path

from report_project import views
from report_project.views import waiting

urlpatterns = [
    path("plain/", views.plain, name="plain"),
    path("waiting/", waiting),
    path("marked/", views.marked),
    path("in/", include(([path("class/", views.Plain.as_view(), name="class")], "inner"), namespace="inner")),
    re_path(r"^async-class/$", views.Waiting.as_view()),
]
