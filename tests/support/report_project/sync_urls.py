from django.urls import path

from report_project import views

urlpatterns = [path("plain/", views.plain), path("class/", views.Plain.as_view())]
