from django.contrib import admin
from django.urls import path

from report_project import views

urlpatterns = [path("shop/", views.plain), path("back-office/", admin.site.urls)]
