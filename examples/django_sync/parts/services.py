from django.db import transaction
from django.db.models import F, Sum

from .models import Movement, Stock


class MoveError(Exception):
    """The stock cannot be moved. The message is for the user."""


@transaction.atomic
def move_stock(part, source, target, quantity, moved_by):
    """Move pieces of a part from one warehouse to another, completely or not at all."""
    if not _stock(part, source).filter(quantity__gte=quantity).update(quantity=F("quantity") - quantity):
        raise MoveError(f"{source} has fewer than {quantity} of {part.number}.")

    Stock.objects.get_or_create(part=part, warehouse=target)
    _stock(part, target).update(quantity=F("quantity") + quantity)
    stored = target.stock.aggregate(total=Sum("quantity"))["total"]
    if stored > target.capacity:
        raise MoveError(f"{target} is full: it would be {stored - target.capacity} over its capacity.")

    return Movement.objects.create(part=part, source=source, target=target, quantity=quantity, moved_by=moved_by)


def _stock(part, warehouse):
    return Stock.objects.filter(part=part, warehouse=warehouse)
