from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce
from django.urls import reverse


class Warehouse(models.Model):
    name = models.CharField(max_length=60, unique=True)
    city = models.CharField(max_length=60)
    capacity = models.PositiveIntegerField(help_text="How many pieces fit in.")

    class Meta:
        ordering = ("name",)

    def __str__(self):
        return self.name


class PartQuerySet(models.QuerySet):
    def with_stock(self):
        # Django does not apply Meta.ordering to a query that groups.
        return self.annotate(in_stock=Coalesce(Sum("stock__quantity"), 0)).order_by("number")

    def to_reorder(self):
        return self.with_stock().filter(in_stock__lt=F("reorder_below"))


class Part(models.Model):
    number = models.SlugField(
        max_length=12,
        unique=True,
        validators=[RegexValidator(r"^[A-Z]{2,4}-\d{3,5}\Z", "Two to four capitals, a hyphen, three to five digits.")],
        help_text="For example BRG-6204.",
    )
    name = models.CharField(max_length=80)
    notes = models.TextField(blank=True)
    reorder_below = models.PositiveIntegerField(default=20)

    objects = PartQuerySet.as_manager()

    class Meta:
        ordering = ("number",)

    def __str__(self):
        return f"{self.number} {self.name}"

    def get_absolute_url(self):
        return reverse("part", args=[self.number])


class Stock(models.Model):
    part = models.ForeignKey(Part, on_delete=models.CASCADE, related_name="stock")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="stock")
    quantity = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("part", "warehouse")
        verbose_name_plural = "stock"
        constraints = (models.UniqueConstraint(fields=("part", "warehouse"), name="one_stock_per_part_and_warehouse"),)

    def __str__(self):
        return f"{self.quantity} x {self.part} in {self.warehouse}"


class Movement(models.Model):
    part = models.ForeignKey(Part, on_delete=models.CASCADE, related_name="movements")
    source = models.ForeignKey(Warehouse, models.PROTECT, verbose_name="from", related_name="departures")
    target = models.ForeignKey(Warehouse, models.PROTECT, verbose_name="to", related_name="arrivals")
    quantity = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    moved_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    moved_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ("-moved_at", "-pk")
        constraints = (
            models.CheckConstraint(condition=~Q(source=F("target")), name="movement_has_two_ends"),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="movement_moves_something"),
        )

    def __str__(self):
        return f"{self.quantity} x {self.part}: {self.source} to {self.target}"


class Document(models.Model):
    part = models.ForeignKey(Part, on_delete=models.CASCADE, related_name="documents")
    title = models.CharField(max_length=80)
    file = models.FileField(upload_to="documents/%Y/")
    uploaded_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    uploaded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("title", "pk")

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("document", args=[self.pk])
