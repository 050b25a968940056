from django.urls import path

from . import views

urlpatterns = [
    path("", views.entrance, name="entrance"),
    path("leave/", views.leave, name="leave"),
    path("<slug:slug>/", views.room, name="room"),
    path("<slug:slug>/live/", views.live, name="live"),
    path("<slug:slug>/say/", views.say, name="say"),
    path("<slug:slug>/here/", views.here, name="here"),
    path("<slug:slug>/history/", views.history, name="history"),
]
