import csv
import io
from time import time

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe
from django.views.generic import View

from .feed import EventStream
from .forms import SiteForm
from .models import Notification, Site

SHOWN = 12


class Board(View):
    """The page: all sites, the latest notifications, and a form to add a site."""

    async def get(self, request):
        return await self._show(request, SiteForm())

    async def post(self, request):
        form = SiteForm(request.POST)
        if not form.is_valid():
            return await self._show(request, form)
        await Site.objects.acreate(**form.cleaned_data)
        watcher = watcher_of(request)
        watcher.in_background(watcher.ask())
        return redirect("board")

    async def _show(self, request, form):
        latest = [one async for one in Notification.objects.select_related("site")[:SHOWN]]
        context = {
            "form": form,
            "sites": [site async for site in Site.objects.all()],
            "notifications": latest,
            "after": latest[0].pk if latest else 0,
            "shown": SHOWN,
        }
        return render(request, "watch/board.html", context)


@require_POST
async def ask(request):
    """Ask all sites now. The response does not wait for that. Changes come through the feed."""
    watcher = watcher_of(request)
    watcher.in_background(watcher.ask())
    return HttpResponse(status=202)


@require_POST
async def remove(request, pk):
    await Site.objects.filter(pk=pk).adelete()
    return redirect("board")


@require_safe
async def feed(request):
    """The notifications as they come, for as long as the reader stays."""
    # A browser that connects again says which notification it has seen last.
    after = number(request.headers.get("Last-Event-ID") or request.GET.get("after"))
    following = watcher_of(request).feed
    if request.bridge.interface == "wsgi" and len(following.readers) >= settings.FEED_LIMIT:
        return HttpResponse("all places are taken\n", status=503, headers={"Retry-After": "30"})
    return StreamingHttpResponse(
        EventStream(following, after),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


@require_safe
async def notifications(request):
    """The same for a reader who polls."""
    after = number(request.GET.get("after"))
    found = Notification.objects.filter(pk__gt=after).select_related("site").order_by("pk")
    return JsonResponse({"notifications": [one.as_dict() async for one in found[:100]]})


async def _history():
    yield "at,site,state,answer\r\n"
    async for one in Notification.objects.select_related("site").order_by("pk").aiterator(chunk_size=100):
        line = io.StringIO()
        at = timezone.localtime(one.at).isoformat(timespec="seconds")
        csv.writer(line).writerow([at, one.site.name, one.state, one.answer])
        yield line.getvalue()


@require_safe
async def history_csv(request):
    """All notifications ever, streamed line by line, however many there are."""
    return StreamingHttpResponse(
        _history(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="history.csv"'},
    )


@require_safe
async def lamp(request):
    """Something to watch: ten seconds on, ten seconds off."""
    return HttpResponse("on\n") if time() // 10 % 2 else HttpResponse("off\n", status=503)


def number(after):
    """The number of a notification, 0 for none."""
    if after and not (after.isascii() and after.isdecimal() and len(after) < 19):
        raise BadRequest(f"the number of a notification was expected, not {after[:40]!r}")
    return int(after or 0)


def watcher_of(request):
    """What the startup hook has put into the lifespan's state."""
    return request.scope["state"]["watcher"]
