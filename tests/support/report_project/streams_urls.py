from django.urls import path

from report_project import views

NAMES = (
    "async_stream",
    "async_stream_of_a_sync_view",
    "sync_stream",
    "sync_stream_of_an_async_view",
    "download",
    "unknown_stream",
    "no_stream_after_all",
    "plain",
)
urlpatterns = [path(f"{name}/", getattr(views, name)) for name in NAMES] + [path("feed/", views.Feed.as_view())]
