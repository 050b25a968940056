from django.contrib import admin

from .models import Document, Movement, Part, Stock, Warehouse


class StockInline(admin.TabularInline):
    model = Stock
    extra = 0


@admin.register(Part)
class PartAdmin(admin.ModelAdmin):
    list_display = ("number", "name", "reorder_below")
    search_fields = ("number", "name")
    inlines = (StockInline,)


@admin.register(Warehouse)
class WarehouseAdmin(admin.ModelAdmin):
    list_display = ("name", "city", "capacity")


@admin.register(Movement)
class MovementAdmin(admin.ModelAdmin):
    list_display = ("moved_at", "part", "source", "target", "quantity", "moved_by")
    list_filter = ("source", "target")
    date_hierarchy = "moved_at"


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    list_display = ("title", "part", "uploaded_by", "uploaded_at")
