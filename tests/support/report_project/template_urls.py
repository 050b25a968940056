from django.urls import path

from report_project import views

urlpatterns = [path("templated/", views.templated), path("templated-plain/", views.templated_plain)]
