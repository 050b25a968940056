from django.urls import path

from report_project import views

urlpatterns = [
    path("plain/", views.plain),
    path("free/", views.free),
    path("waiting/", views.waiting),
    path("class/", views.Waiting.as_view()),
]
