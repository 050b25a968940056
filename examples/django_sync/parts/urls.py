from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("parts/", views.PartList.as_view(), name="parts"),
    path("parts/new/", views.PartCreate.as_view(), name="part-new"),
    path("parts/<slug:number>/", views.PartDetail.as_view(), name="part"),
    path("parts/<slug:number>/documents/new/", views.DocumentUpload.as_view(), name="document-new"),
    path("documents/<int:pk>/", views.document, name="document"),
    path("move/", views.move, name="move"),
    path("movements/", views.MovementList.as_view(), name="movements"),
    path("movements.csv", views.movements_csv, name="movements-csv"),
    path("reports/turnover/", views.turnover, name="turnover"),
]
