from django.urls import path

from . import views

urlpatterns = [
    path("", views.Board.as_view(), name="board"),
    path("ask/", views.ask, name="ask"),
    path("sites/<int:pk>/remove/", views.remove, name="remove"),
    path("feed/", views.feed, name="feed"),
    path("notifications/", views.notifications, name="notifications"),
    path("history.csv", views.history_csv, name="history-csv"),
    path("lamp/", views.lamp, name="lamp"),
]
